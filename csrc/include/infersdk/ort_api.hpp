// The part of ONNX Runtime's C API that infersdk uses, by slot.
//
// Why our own header: the onnxruntime wheels ship the shared library without its headers. The C API
// is one append-only table of function pointers, so naming the slots in use is stable across
// releases: a slot never moves and never changes its signature. Each row below gives the slot's
// index in that table.
//
// The lowest API version that holds every slot marked "always" is kMinApiVersion; slots that came
// later are optional and null where the library is older.
//
// Thread safety: Api is immutable after load_api() and may be shared by all threads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace infersdk {

// Opaque handles. They are only ever used through the table.
struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtIoBinding;
struct OrtValue;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtMapTypeInfo;
struct OrtSequenceTypeInfo;
struct OrtOptionalTypeInfo;
struct OrtModelMetadata;
struct OrtCUDAProviderOptionsV2;
struct OrtTensorRTProviderOptionsV2;
struct OrtEpDevice;

enum class ElementType : int {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBfloat16 = 16,
  kFloat8E4M3FN = 17,
  kFloat8E4M3FNUZ = 18,
  kFloat8E5M2 = 19,
  kFloat8E5M2FNUZ = 20,
  kUint4 = 21,
  kInt4 = 22,
  kFloat4E2M1 = 23,
  kUint2 = 24,
  kInt2 = 25,
  kFloat8E8M0 = 26,
};

enum class ValueKind : int {
  kUnknown = 0,
  kTensor = 1,
  kSequence = 2,
  kMap = 3,
  kOpaque = 4,
  kSparseTensor = 5,
  kOptional = 6,
};

constexpr int kOrtInvalidArgument = 2;
constexpr int kLogFatal = 4;
constexpr int kAllocatorDevice = 0;
constexpr int kAllocatorArena = 1;
constexpr int kMemTypeCpuOutput = -1;  // of page-locked host memory
constexpr int kMemTypeDefault = 0;
constexpr int kDeviceGpu = 1;
constexpr int kDeviceMemDefault = 0;
constexpr uint32_t kVendorNvidia = 0x10DE;

using OrtLoggingFunction = void (*)(void* param, int severity, const char* category,
                                    const char* log_id, const char* code_location,
                                    const char* message);

constexpr uint32_t kMinApiVersion = 16;       // every slot of INFERSDK_ORT_SLOTS
constexpr uint32_t kHasShapeApiVersion = 24;  // TensorTypeAndShape_HasShape

// X(index, name, return type, arguments)
#define INFERSDK_ORT_SLOTS(X)                                                                    \
  X(1, GetErrorCode, int, (const OrtStatus*))                                                    \
  X(2, GetErrorMessage, const char*, (const OrtStatus*))                                         \
  X(4, CreateEnvWithCustomLogger, OrtStatus*,                                                    \
    (OrtLoggingFunction, void*, int, const char*, OrtEnv**))                                     \
  X(7, CreateSession, OrtStatus*,                                                                \
    (const OrtEnv*, const char*, const OrtSessionOptions*, OrtSession**))                        \
  X(8, CreateSessionFromArray, OrtStatus*,                                                       \
    (const OrtEnv*, const void*, size_t, const OrtSessionOptions*, OrtSession**))                \
  X(9, Run, OrtStatus*,                                                                          \
    (OrtSession*, const OrtRunOptions*, const char* const*, const OrtValue* const*, size_t,      \
     const char* const*, size_t, OrtValue**))                                                    \
  X(10, CreateSessionOptions, OrtStatus*, (OrtSessionOptions**))                                 \
  X(22, SetSessionLogSeverityLevel, OrtStatus*, (OrtSessionOptions*, int))                       \
  X(23, SetSessionGraphOptimizationLevel, OrtStatus*, (OrtSessionOptions*, int))                 \
  X(24, SetIntraOpNumThreads, OrtStatus*, (OrtSessionOptions*, int))                             \
  X(25, SetInterOpNumThreads, OrtStatus*, (OrtSessionOptions*, int))                             \
  X(30, SessionGetInputCount, OrtStatus*, (const OrtSession*, size_t*))                          \
  X(31, SessionGetOutputCount, OrtStatus*, (const OrtSession*, size_t*))                         \
  X(32, SessionGetOverridableInitializerCount, OrtStatus*, (const OrtSession*, size_t*))         \
  X(33, SessionGetInputTypeInfo, OrtStatus*, (const OrtSession*, size_t, OrtTypeInfo**))         \
  X(34, SessionGetOutputTypeInfo, OrtStatus*, (const OrtSession*, size_t, OrtTypeInfo**))        \
  X(35, SessionGetOverridableInitializerTypeInfo, OrtStatus*,                                    \
    (const OrtSession*, size_t, OrtTypeInfo**))                                                  \
  X(36, SessionGetInputName, OrtStatus*, (const OrtSession*, size_t, OrtAllocator*, char**))     \
  X(37, SessionGetOutputName, OrtStatus*, (const OrtSession*, size_t, OrtAllocator*, char**))    \
  X(38, SessionGetOverridableInitializerName, OrtStatus*,                                        \
    (const OrtSession*, size_t, OrtAllocator*, char**))                                          \
  X(39, CreateRunOptions, OrtStatus*, (OrtRunOptions**))                                         \
  X(46, RunOptionsSetTerminate, OrtStatus*, (OrtRunOptions*))                                    \
  X(48, CreateTensorAsOrtValue, OrtStatus*,                                                      \
    (OrtAllocator*, const int64_t*, size_t, int, OrtValue**))                                    \
  X(49, CreateTensorWithDataAsOrtValue, OrtStatus*,                                              \
    (const OrtMemoryInfo*, void*, size_t, const int64_t*, size_t, int, OrtValue**))              \
  X(51, GetTensorMutableData, OrtStatus*, (OrtValue*, void**))                                   \
  X(53, GetStringTensorDataLength, OrtStatus*, (const OrtValue*, size_t*))                       \
  X(54, GetStringTensorContent, OrtStatus*, (const OrtValue*, void*, size_t, size_t*, size_t))   \
  X(55, CastTypeInfoToTensorInfo, OrtStatus*,                                                    \
    (const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**))                                     \
  X(56, GetOnnxTypeFromTypeInfo, OrtStatus*, (const OrtTypeInfo*, int*))                         \
  X(60, GetTensorElementType, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int*))              \
  X(61, GetDimensionsCount, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, size_t*))             \
  X(62, GetDimensions, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int64_t*, size_t))         \
  X(63, GetSymbolicDimensions, OrtStatus*,                                                       \
    (const OrtTensorTypeAndShapeInfo*, const char**, size_t))                                    \
  X(65, GetTensorTypeAndShape, OrtStatus*, (const OrtValue*, OrtTensorTypeAndShapeInfo**))       \
  X(67, GetValueType, OrtStatus*, (const OrtValue*, int*))                                       \
  X(68, CreateMemoryInfo, OrtStatus*, (const char*, int, int, int, OrtMemoryInfo**))             \
  X(69, CreateCpuMemoryInfo, OrtStatus*, (int, int, OrtMemoryInfo**))                            \
  X(71, MemoryInfoGetName, OrtStatus*, (const OrtMemoryInfo*, const char**))                     \
  X(72, MemoryInfoGetId, OrtStatus*, (const OrtMemoryInfo*, int*))                               \
  X(75, AllocatorAlloc, OrtStatus*, (OrtAllocator*, size_t, void**))                             \
  X(76, AllocatorFree, OrtStatus*, (OrtAllocator*, void*))                                       \
  X(78, GetAllocatorWithDefaultOptions, OrtStatus*, (OrtAllocator**))                            \
  X(80, GetValue, OrtStatus*, (const OrtValue*, int, OrtAllocator*, OrtValue**))                 \
  X(81, GetValueCount, OrtStatus*, (const OrtValue*, size_t*))                                   \
  X(82, CreateValue, OrtStatus*, (const OrtValue* const*, size_t, int, OrtValue**))              \
  X(93, ReleaseStatus, void, (OrtStatus*))                                                       \
  X(94, ReleaseMemoryInfo, void, (OrtMemoryInfo*))                                               \
  X(95, ReleaseSession, void, (OrtSession*))                                                     \
  X(96, ReleaseValue, void, (OrtValue*))                                                         \
  X(97, ReleaseRunOptions, void, (OrtRunOptions*))                                               \
  X(98, ReleaseTypeInfo, void, (OrtTypeInfo*))                                                   \
  X(99, ReleaseTensorTypeAndShapeInfo, void, (OrtTensorTypeAndShapeInfo*))                       \
  X(100, ReleaseSessionOptions, void, (OrtSessionOptions*))                                      \
  X(103, CastTypeInfoToMapTypeInfo, OrtStatus*, (const OrtTypeInfo*, const OrtMapTypeInfo**))    \
  X(104, CastTypeInfoToSequenceTypeInfo, OrtStatus*,                                             \
    (const OrtTypeInfo*, const OrtSequenceTypeInfo**))                                           \
  X(105, GetMapKeyType, OrtStatus*, (const OrtMapTypeInfo*, int*))                               \
  X(106, GetMapValueType, OrtStatus*, (const OrtMapTypeInfo*, OrtTypeInfo**))                    \
  X(107, GetSequenceElementType, OrtStatus*, (const OrtSequenceTypeInfo*, OrtTypeInfo**))        \
  X(125, GetAvailableProviders, OrtStatus*, (char***, int*))                                     \
  X(126, ReleaseAvailableProviders, OrtStatus*, (char**, int))                                   \
  X(130, AddSessionConfigEntry, OrtStatus*, (OrtSessionOptions*, const char*, const char*))      \
  X(131, CreateAllocator, OrtStatus*, (const OrtSession*, const OrtMemoryInfo*, OrtAllocator**)) \
  X(132, ReleaseAllocator, void, (OrtAllocator*))                                                \
  X(133, RunWithBinding, OrtStatus*, (OrtSession*, const OrtRunOptions*, const OrtIoBinding*))   \
  X(134, CreateIoBinding, OrtStatus*, (OrtSession*, OrtIoBinding**))                             \
  X(135, ReleaseIoBinding, void, (OrtIoBinding*))                                                \
  X(136, BindInput, OrtStatus*, (OrtIoBinding*, const char*, const OrtValue*))                   \
  X(137, BindOutput, OrtStatus*, (OrtIoBinding*, const char*, const OrtValue*))                  \
  X(138, BindOutputToDevice, OrtStatus*, (OrtIoBinding*, const char*, const OrtMemoryInfo*))     \
  X(140, GetBoundOutputValues, OrtStatus*,                                                       \
    (const OrtIoBinding*, OrtAllocator*, OrtValue***, size_t*))                                  \
  X(170, SessionOptionsAppendExecutionProvider_TensorRT_V2, OrtStatus*,                          \
    (OrtSessionOptions*, const OrtTensorRTProviderOptionsV2*))                                   \
  X(171, CreateTensorRTProviderOptions, OrtStatus*, (OrtTensorRTProviderOptionsV2**))            \
  X(172, UpdateTensorRTProviderOptions, OrtStatus*,                                              \
    (OrtTensorRTProviderOptionsV2*, const char* const*, const char* const*, size_t))             \
  X(174, ReleaseTensorRTProviderOptions, void, (OrtTensorRTProviderOptionsV2*))                  \
  X(192, HasValue, OrtStatus*, (const OrtValue*, int*))                                          \
  X(194, GetTensorMemoryInfo, OrtStatus*, (const OrtValue*, const OrtMemoryInfo**))              \
  X(202, SynchronizeBoundInputs, OrtStatus*, (OrtIoBinding*))                                    \
  X(203, SynchronizeBoundOutputs, OrtStatus*, (OrtIoBinding*))                                   \
  X(204, SessionOptionsAppendExecutionProvider_CUDA_V2, OrtStatus*,                              \
    (OrtSessionOptions*, const OrtCUDAProviderOptionsV2*))                                       \
  X(205, CreateCUDAProviderOptions, OrtStatus*, (OrtCUDAProviderOptionsV2**))                    \
  X(206, UpdateCUDAProviderOptions, OrtStatus*,                                                  \
    (OrtCUDAProviderOptionsV2*, const char* const*, const char* const*, size_t))                 \
  X(208, ReleaseCUDAProviderOptions, void, (OrtCUDAProviderOptionsV2*))                          \
  X(216, SessionOptionsAppendExecutionProvider, OrtStatus*,                                      \
    (OrtSessionOptions*, const char*, const char* const*, const char* const*, size_t))           \
  X(225, MemoryInfoGetDeviceType, void, (const OrtMemoryInfo*, int*))                            \
  X(250, CastTypeInfoToOptionalTypeInfo, OrtStatus*,                                             \
    (const OrtTypeInfo*, const OrtOptionalTypeInfo**))                                           \
  X(251, GetOptionalContainedTypeInfo, OrtStatus*, (const OrtOptionalTypeInfo*, OrtTypeInfo**))  \
  X(252, GetResizedStringTensorElementBuffer, OrtStatus*, (OrtValue*, size_t, size_t, char**))   \
  X(254, GetBuildInfoString, const char*, ())

// Slots of later API versions, null where the library is older.
#define INFERSDK_ORT_OPTIONAL_SLOTS(X)                                                      \
  X(301, RegisterExecutionProviderLibrary, OrtStatus*, (OrtEnv*, const char*, const char*)) \
  X(303, GetEpDevices, OrtStatus*, (const OrtEnv*, const OrtEpDevice* const**, size_t*))    \
  X(304, SessionOptionsAppendExecutionProvider_V2, OrtStatus*,                              \
    (OrtSessionOptions*, OrtEnv*, const OrtEpDevice* const*, size_t, const char* const*,    \
     const char* const*, size_t))                                                           \
  X(312, EpDevice_EpName, const char*, (const OrtEpDevice*))                                \
  X(321, MemoryInfoGetDeviceMemType, int, (const OrtMemoryInfo*))                           \
  X(322, MemoryInfoGetVendorId, uint32_t, (const OrtMemoryInfo*))                           \
  X(390, TensorTypeAndShape_HasShape, bool, (const OrtTensorTypeAndShapeInfo*))

struct Api {
#define INFERSDK_DECLARE(index, name, ret, args) ret(*name) args = nullptr;
  INFERSDK_ORT_SLOTS(INFERSDK_DECLARE)
  INFERSDK_ORT_OPTIONAL_SLOTS(INFERSDK_DECLARE)
#undef INFERSDK_DECLARE
};

// What OrtGetApiBase() returns.
struct OrtApiBase {
  const void* const* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

}  // namespace infersdk
