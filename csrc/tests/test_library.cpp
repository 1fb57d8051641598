// Opening ONNX Runtime. The order matters: a library stays open once it is, so the failures come
// first.
#include <stdexcept>
#include <thread>

#include "fixture.hpp"

using namespace fixture;

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Status failure(const std::string& path) {
  Library* opened = nullptr;
  Status status = Library::open(path, &opened);
  CHECK(opened == nullptr);
  CHECK(Library::current() == nullptr);
  CHECK(status.code() == StatusCode::kMissingLibrary);
  CHECK(contains(status.message(), path));
  return status;
}

}  // namespace

TEST(exceptions_become_statuses) {
  CHECK(guarded([] { return Status(); }).ok());
  Status memory = guarded([]() -> Status { throw std::bad_alloc(); });
  CHECK(memory.code() == StatusCode::kOutOfMemory);
  Status named = guarded([]() -> Status { throw std::runtime_error("the reason"); });
  CHECK(named.code() == StatusCode::kInternal && named.message() == "the reason");
  Status unnamed = guarded([]() -> Status { throw 1; });
  CHECK(unnamed.code() == StatusCode::kInternal && !unnamed.message().empty());
}

TEST(a_missing_file_is_named) {
  CHECK(contains(failure("/no/such/libonnxruntime.so").message(), "No such file"));
}

TEST(a_file_that_is_no_library_is_refused) {
  CHECK(contains(failure(model_path("affine")).message(), "could not open"));
}

TEST(another_library_is_refused) {
  CHECK(contains(failure("libm.so.6").message(), "not an ONNX Runtime library"));
}

TEST(a_library_without_the_needed_api_is_refused) {
  Status status = failure(environment("INFERSDK_TEST_OLD_RUNTIME"));
  CHECK(contains(status.message(), "1.2.3"));
  CHECK(contains(status.message(), std::to_string(kMinApiVersion)));
}

TEST(threads_that_open_at_once_get_one_library) {
  std::vector<Library*> opened(8, nullptr);
  std::vector<std::thread> threads;
  for (Library*& mine : opened) {
    threads.emplace_back([&mine] { REQUIRE(passed(Library::open(runtime_path(), &mine))); });
  }
  for (std::thread& thread : threads) thread.join();
  for (Library* each : opened) CHECK(each == Library::current());
  CHECK(Library::current() != nullptr);
}

TEST(the_library_says_what_it_is) {
  CHECK(library()->path() == runtime_path());
  CHECK(library()->version().find('.') != std::string::npos);
  CHECK(library()->cpu_memory() != nullptr);
  CHECK(library()->allocator() != nullptr);
}

TEST(a_later_path_gives_the_library_that_is_open) {
  Library* again = nullptr;
  CHECK(passed(Library::open("/no/such/libonnxruntime.so", &again)));
  CHECK(again == library());
}

TEST(the_environment_is_made_once) {
  std::lock_guard<std::mutex> lock(Library::creation_mutex());
  OrtEnv* first = nullptr;
  OrtEnv* second = nullptr;
  CHECK(passed(library()->environment(&first)));
  CHECK(passed(library()->environment(&second)));
  CHECK(first != nullptr && first == second);
}

TEST(no_status_is_success) {
  CHECK(library()->check(nullptr).ok());
}

RUN_TESTS()
