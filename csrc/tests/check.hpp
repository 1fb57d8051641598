// The test harness: TEST(name) { CHECK(...); } and, once per program, RUN_TESTS().
//
// A failed CHECK is printed and counted, a failed REQUIRE ends the program: what follows could not
// run. Both may be used from any thread. A program runs all of its tests in the order of the file,
// or those whose names contain its first argument.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline std::atomic<int>& failures() {
  static std::atomic<int> count{0};
  return count;
}

// Why the running test cannot be made in this build; null where it can.
inline const char*& skipped() {
  static const char* reason = nullptr;
  return reason;
}

inline bool fail(const char* file, int line, const char* expression) {
  failures().fetch_add(1);
  std::fprintf(stderr, "%s:%d: CHECK(%s) failed\n", file, line, expression);
  return false;
}

struct Registration {
  Registration(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

inline int run(int argc, char** argv) {
  int failed = 0;
  for (const Test& test : tests()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    const int before = failures().load();
    const auto started = std::chrono::steady_clock::now();
    test.body();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    const bool passed = failures().load() == before;
    if (!passed) ++failed;
    if (passed && skipped() != nullptr) {
      std::printf("  skip   %s: %s\n", test.name, skipped());
    } else {
      std::printf("  %-6s %s (%.2f s)\n", passed ? "ok" : "FAILED", test.name, elapsed.count());
    }
    skipped() = nullptr;
    std::fflush(stdout);
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace check

#define TEST(name)                                        \
  static void name();                                     \
  static const check::Registration name##_(#name, &name); \
  static void name()

#define CHECK(expression) ((expression) ? true : check::fail(__FILE__, __LINE__, #expression))

#define REQUIRE(expression)                \
  do {                                     \
    if (!CHECK(expression)) std::_Exit(1); \
  } while (false)

#define SKIP(reason)             \
  do {                           \
    check::skipped() = (reason); \
    return;                      \
  } while (false)

#define RUN_TESTS()                 \
  int main(int argc, char** argv) { \
    return check::run(argc, argv);  \
  }
