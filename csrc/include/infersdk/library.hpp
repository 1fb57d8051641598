// ONNX Runtime as a privately opened shared library, with one environment per process.
//
// Thread safety: every function may be called from any thread. Blocking: open() loads a library of
// some 20 MB the first time. Ownership: the library and its environment live until the process
// ends; ONNX Runtime does not survive being unloaded.
//
// fork: the environment of a parent is never used in its child. process_generation() grows in a
// child, and holders of sessions rebuild them when it does. Sessions are created under a lock that
// fork takes too, so that a child never inherits a half-created session's locks.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "infersdk/ort_api.hpp"
#include "infersdk/status.hpp"

namespace infersdk {

class Library {
 public:
  // Opens the shared library at `path`, once per process; later calls with any path return the
  // first.
  static Status open(const std::string& path, Library** out) noexcept;

  // The opened library, or null.
  static Library* current() noexcept;

  // Starts counting forks; open() does so too.
  static void watch_forks() noexcept;

  // How many forks lie between the first process and this one.
  static uint64_t process_generation() noexcept;

  // Held while sessions are created or destroyed, and across fork().
  static std::mutex& creation_mutex() noexcept;

  const Api& api() const { return api_; }
  const std::string& version() const { return version_; }
  const std::string& path() const { return path_; }
  const OrtMemoryInfo* cpu_memory() const { return cpu_memory_; }
  OrtAllocator* allocator() const { return allocator_; }

  // The process's environment; created on first use (in a child after fork: anew). The caller holds
  // creation_mutex().
  Status environment(OrtEnv** out) noexcept;

  // Translates and releases an OrtStatus; null means success.
  Status check(OrtStatus* status) const noexcept;

 private:
  Library() = default;
  Status load(const std::string& path);

  Api api_;
  std::string version_;
  std::string path_;
  OrtMemoryInfo* cpu_memory_ = nullptr;
  OrtAllocator* allocator_ = nullptr;
  OrtEnv* env_ = nullptr;
  uint64_t env_generation_ = 0;
};

}  // namespace infersdk
