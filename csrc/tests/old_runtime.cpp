// A shared library that says of itself that it is an ONNX Runtime from before any API we can use.
#include "infersdk/ort_api.hpp"

extern "C" __attribute__((visibility("default"))) const infersdk::OrtApiBase* OrtGetApiBase() {
  static const infersdk::OrtApiBase base = {
      [](uint32_t) -> const void* const* { return nullptr; },
      []() -> const char* { return "1.2.3"; },
  };
  return &base;
}
