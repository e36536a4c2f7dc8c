// SPDX-License-Identifier: Apache-2.0
// The ceilings of one core: FMA rate, and read bandwidth of a footprint. `peak.py` compiles and runs it.
//   peak isas                                  the ISAs that can be measured here
//   peak fma ISA MILLISECONDS REPEATS          GFLOP/s of every repeat
//   peak read ISA BYTES MILLISECONDS REPEATS   GB/s of every repeat, the better of one stream and of eight
// Every operation is an asm volatile of one ISA's width: the compiler can neither merge, drop nor widen it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr int kStreams = 8;
constexpr int kStreamLoads = 4;  // consecutive vectors that a stream reads before the next one's turn

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

using FmaFn = void (*)(long iterations);
// Reads `bytes` (a multiple of 8 KiB) `passes` times.
using ReadFn = void (*)(const char* data, std::size_t bytes, long passes);

struct Isa {
  const char* name;
  bool available;
  FmaFn fma;
  double flops;  // per iteration
  ReadFn one_stream;
  ReadFn many_streams;
};

// As many accumulators as registers beside the two operands allow; 12 hide the latency of any FMA unit so far.
#define FMA_LOOP(Name, Target, Vector, kCount, Instruction, Constraint)                    \
  Target void Name(long iterations) {                                                      \
    Vector acc[kCount] = {};                                                               \
    Vector a = {}, b = {};                                                                 \
    for (long i = 0; i < iterations; ++i) {                                                \
      _Pragma("GCC unroll 32") for (int j = 0; j < kCount; ++j) {                          \
        asm volatile(Instruction : "+" Constraint(acc[j]) : Constraint(a), Constraint(b)); \
      }                                                                                    \
    }                                                                                      \
  }

#define LOADS(p, from, count, Vector, Instruction, Constraint)                                 \
  _Pragma("GCC unroll 32") for (int j = 0; j < count; ++j) {                                   \
    Vector r;                                                                                  \
    const char* at = (p) + (from) + j * sizeof(Vector);                                        \
    asm volatile(Instruction : "=" Constraint(r) : "m"(*reinterpret_cast<const Vector*>(at))); \
  }

#define READ_LOOPS(Name, Target, Vector, Instruction, Constraint)                  \
  Target void Name##_one(const char* data, std::size_t bytes, long passes) {       \
    constexpr std::size_t kStep = 8 * sizeof(Vector);                              \
    for (long pass = 0; pass < passes; ++pass) {                                   \
      for (std::size_t i = 0; i < bytes; i += kStep) {                             \
        LOADS(data, i, 8, Vector, Instruction, Constraint)                         \
      }                                                                            \
    }                                                                              \
  }                                                                                \
  Target void Name##_many(const char* data, std::size_t bytes, long passes) {      \
    constexpr std::size_t kStep = kStreamLoads * sizeof(Vector);                   \
    const std::size_t part = bytes / kStreams;                                     \
    for (long pass = 0; pass < passes; ++pass) {                                   \
      for (std::size_t i = 0; i < part; i += kStep) {                              \
        _Pragma("GCC unroll 8") for (int s = 0; s < kStreams; ++s) {               \
          LOADS(data + s * part, i, kStreamLoads, Vector, Instruction, Constraint) \
        }                                                                          \
      }                                                                            \
    }                                                                              \
  }

#if defined(__x86_64__)
typedef float V4 __attribute__((vector_size(16), may_alias));
typedef float V8 __attribute__((vector_size(32), may_alias));
typedef float V16 __attribute__((vector_size(64), may_alias));
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,fma")))

FMA_LOOP(fma_scalar, AVX2, float, 12, "vfmadd231ss %2, %1, %0", "x")
FMA_LOOP(fma_avx2, AVX2, V8, 12, "vfmadd231ps %2, %1, %0", "x")
FMA_LOOP(fma_avx512, AVX512, V16, 24, "vfmadd231ps %2, %1, %0", "v")
READ_LOOPS(read_scalar, , V4, "movups %1, %0", "x")
READ_LOOPS(read_avx2, AVX2, V8, "vmovups %1, %0", "x")
READ_LOOPS(read_avx512, AVX512, V16, "vmovups %1, %0", "v")

Isa* list_isas(int* count) {
  static Isa isas[] = {
      {"scalar", bool(__builtin_cpu_supports("fma")), fma_scalar, 12 * 2, read_scalar_one, read_scalar_many},
      {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), fma_avx2, 12 * 16, read_avx2_one,
       read_avx2_many},
      {"avx512", bool(__builtin_cpu_supports("avx512f")), fma_avx512, 24 * 32, read_avx512_one, read_avx512_many},
  };
  *count = 3;
  return isas;
}
#elif defined(__aarch64__)
typedef float V4 __attribute__((vector_size(16), may_alias));
FMA_LOOP(fma_scalar, , float, 24, "fmadd %s0, %s2, %s1, %s0", "w")
READ_LOOPS(read_scalar, , V4, "ldr %q0, %1", "w")

Isa* list_isas(int* count) {
  static Isa isas[] = {{"scalar", true, fma_scalar, 24 * 2, read_scalar_one, read_scalar_many}};
  *count = 1;
  return isas;
}
#else
#error "no FMA and load instructions are given for this processor"
#endif

// Calls f(n) with n so large that a call takes about `milliseconds`, `repeats` times; returns the rates in 1e9 / s.
template <class F>
std::vector<double> rates(F f, double work, double milliseconds, int repeats) {
  long n = 1;
  double took = 0;
  for (;; n *= 2) {
    const auto start = Clock::now();
    f(n);
    took = seconds_since(start);
    if (took > 1e-3 || took * 1e3 > milliseconds) break;
  }
  // Where one call takes longer than was asked for, fewer repeats do.
  if (took * 1e3 > milliseconds)
    repeats = std::clamp(static_cast<int>(repeats * milliseconds * 1e-3 / took), 3, repeats);
  n = std::max(1L, static_cast<long>(n * milliseconds * 1e-3 / took));
  std::vector<double> found;
  for (int r = 0; r < repeats; ++r) {
    const auto start = Clock::now();
    f(n);
    found.push_back(work * n / seconds_since(start) * 1e-9);
  }
  return found;
}

void print(const std::vector<double>& values) {
  for (const double v : values) std::printf("%.6g\n", v);
}

void measure_read(const Isa& isa, std::size_t bytes, double milliseconds, int repeats) {
  bytes = std::max<std::size_t>(8192, bytes / 8192 * 8192);
  char* data = static_cast<char*>(std::aligned_alloc(4096, bytes));
  if (data == nullptr) {
    std::fprintf(stderr, "no memory for %zu bytes\n", bytes);
    std::exit(1);
  }
  std::memset(data, 0, bytes);
  const auto rate_of = [&](ReadFn read) {
    return rates([&](long n) { read(data, bytes, n); }, static_cast<double>(bytes), milliseconds, repeats);
  };
  const std::vector<double> one = rate_of(isa.one_stream);
  const std::vector<double> many = rate_of(isa.many_streams);
  const auto best = [](const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); };
  print(best(one) > best(many) ? one : many);
  std::free(data);
}

}  // namespace

int main(int argc, char** argv) {
  int count = 0;
  const Isa* isas = list_isas(&count);
  const std::string command = argc > 1 ? argv[1] : "";
  for (int i = 0; i < count; ++i) {
    const Isa& isa = isas[i];
    if (!isa.available) continue;
    if (command == "isas") std::printf("%s\n", isa.name);
    if (argc < 5 || argv[2] != std::string(isa.name)) continue;
    if (command == "fma") print(rates(isa.fma, isa.flops, std::atof(argv[3]), std::atoi(argv[4])));
    if (command == "read" && argc > 5) {
      measure_read(isa, std::strtoull(argv[3], nullptr, 10), std::atof(argv[4]), std::atoi(argv[5]));
    }
  }
  return 0;
}
