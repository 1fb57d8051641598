// The result of every fallible call in csrc. Nothing throws across the boundary to Python:
// functions that may allocate are wrapped, and report std::bad_alloc as a Status too.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

namespace infersdk {

enum class StatusCode : int {
  kOk = 0,
  kMissingLibrary,   // libonnxruntime could not be opened, or is too old
  kInvalidArgument,  // ONNX Runtime refused the inputs
  kRuntime,          // ONNX Runtime failed to load or to run
  kOutOfMemory,
  kInterrupted,  // the caller's check asked to stop (Ctrl-C)
  kInternal,
  kOverloaded,  // refused: the queue is full, or too long for the deadline
  kDeadline,    // the deadline came before the answer
  kCancelled,   // the caller took it back
  kClosed,      // the queue was closed
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message, int ort_code = 0)
      : code_(code), ort_code_(ort_code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  int ort_code() const {
    return ort_code_;
  }  // ONNX Runtime's own code, 0 if the error is not its own
  const std::string& message() const { return message_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  int ort_code_ = 0;
  std::string message_;
};

// Runs `body` (returning Status) and turns any exception into a Status.
template <typename Body>
Status guarded(Body&& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kOutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    return Status(StatusCode::kInternal, error.what());
  } catch (...) {
    return Status(StatusCode::kInternal, "unknown C++ exception");
  }
}

}  // namespace infersdk

#define INFERSDK_RETURN_IF_ERROR(expression)             \
  do {                                                   \
    ::infersdk::Status infersdk_status_ = (expression);  \
    if (!infersdk_status_.ok()) return infersdk_status_; \
  } while (false)
