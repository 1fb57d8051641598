#include "infersdk/library.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>

namespace infersdk {
namespace {

std::atomic<Library*> g_library{nullptr};
std::atomic<uint64_t> g_generation{0};
std::once_flag g_fork_handlers;

void before_fork() {
  Library::creation_mutex().lock();
}
void after_fork_in_parent() {
  Library::creation_mutex().unlock();
}
void after_fork_in_child() {
  g_generation.fetch_add(1, std::memory_order_relaxed);
  Library::creation_mutex().unlock();
}

// ONNX Runtime's log lines go nowhere: what matters comes back as a Status, and an embedded library
// must not write to its host's stderr.
void discard_log(void*, int, const char*, const char*, const char*, const char*) {}

}  // namespace

Library* Library::current() noexcept {
  return g_library.load(std::memory_order_acquire);
}

uint64_t Library::process_generation() noexcept {
  return g_generation.load(std::memory_order_relaxed);
}

std::mutex& Library::creation_mutex() noexcept {
  // Never destroyed: threads may still use it while static destructors run.
  static std::mutex* mutex = new std::mutex;
  return *mutex;
}

void Library::watch_forks() noexcept {
  std::call_once(g_fork_handlers,
                 [] { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); });
}

Status Library::open(const std::string& path, Library** out) noexcept {
  return guarded([&]() -> Status {
    watch_forks();
    std::lock_guard<std::mutex> lock(creation_mutex());
    Library* library = current();
    if (library == nullptr) {
      library = new Library;
      Status status = library->load(path);
      if (!status.ok()) {
        delete library;
        return status;
      }
      g_library.store(library, std::memory_order_release);
    }
    *out = library;
    return Status();
  });
}

Status Library::load(const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = dlerror();
    return Status(StatusCode::kMissingLibrary,
                  "could not open " + path + ": " + (reason ? reason : "unknown reason"));
  }
  using GetApiBase = const OrtApiBase* (*)();
  auto get_api_base = reinterpret_cast<GetApiBase>(dlsym(handle, "OrtGetApiBase"));
  if (get_api_base == nullptr) {
    dlclose(handle);
    return Status(StatusCode::kMissingLibrary, path + " is not an ONNX Runtime library");
  }
  const OrtApiBase* base = get_api_base();
  version_ = base->GetVersionString();
  path_ = path;

  uint32_t version = kHasShapeApiVersion;
  const void* const* table = base->GetApi(version);
  if (table == nullptr) {
    version = kMinApiVersion;
    table = base->GetApi(version);
  }
  if (table == nullptr) {
    return Status(StatusCode::kMissingLibrary, "ONNX Runtime " + version_ + " at " + path +
                                                   " is too old: API version " +
                                                   std::to_string(kMinApiVersion) + " is needed");
  }
#define INFERSDK_RESOLVE(index, name, ret, args) \
  api_.name = reinterpret_cast<ret(*) args>(const_cast<void*>(table[index]));
  INFERSDK_ORT_SLOTS(INFERSDK_RESOLVE)
  if (version >= kHasShapeApiVersion) {
    INFERSDK_ORT_OPTIONAL_SLOTS(INFERSDK_RESOLVE)
  }
#undef INFERSDK_RESOLVE

  INFERSDK_RETURN_IF_ERROR(
      check(api_.CreateCpuMemoryInfo(kAllocatorArena, kMemTypeDefault, &cpu_memory_)));
  INFERSDK_RETURN_IF_ERROR(check(api_.GetAllocatorWithDefaultOptions(&allocator_)));
  // Made at once, not by the first session: ONNX Runtime reads ORT_DISABLE_TELEMETRY here, and the
  // caller has set it for the length of this call.
  OrtEnv* env = nullptr;
  return environment(&env);
}

Status Library::environment(OrtEnv** out) noexcept {
  const uint64_t generation = process_generation();
  if (env_ == nullptr || env_generation_ != generation) {
    // A parent's environment is left alone: releasing it in the child could touch its locks.
    OrtEnv* env = nullptr;
    INFERSDK_RETURN_IF_ERROR(
        check(api_.CreateEnvWithCustomLogger(discard_log, nullptr, kLogFatal, "infersdk", &env)));
    env_ = env;
    env_generation_ = generation;
  }
  *out = env_;
  return Status();
}

Status Library::check(OrtStatus* status) const noexcept {
  if (status == nullptr) return Status();
  return guarded([&]() -> Status {
    const int code = api_.GetErrorCode(status);
    std::string message = api_.GetErrorMessage(status);
    api_.ReleaseStatus(status);
    return Status(code == kOrtInvalidArgument ? StatusCode::kInvalidArgument : StatusCode::kRuntime,
                  std::move(message), code);
  });
}

}  // namespace infersdk
