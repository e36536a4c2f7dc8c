// SPDX-License-Identifier: Apache-2.0
// The ceilings of one core: FMA rate, and read bandwidth of a footprint. `peak.py` compiles it to a library and loads
// it. Every operation is an asm volatile of one ISA's width: the compiler can neither merge, drop nor widen it.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
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

const Isa* find_isa(const char* name) {
  int count = 0;
  const Isa* isas = list_isas(&count);
  const auto* found = std::find_if(isas, isas + count, [&](const Isa& i) { return std::strcmp(i.name, name) == 0; });
  return found != isas + count && found->available ? found : nullptr;
}

int give(const std::vector<double>& found, double* rates) {
  std::copy(found.begin(), found.end(), rates);
  return static_cast<int>(found.size());
}

}  // namespace

extern "C" {

// Whether an ISA can be measured here.
int peak_available(const char* isa) { return find_isa(isa) != nullptr; }

// GFLOP/s of the FMA loop, `repeats` times. Returns how many of the rates were filled in; -1 where it is not available.
int peak_fma(const char* isa, double milliseconds, int repeats, double* rates_out) {
  const Isa* found = find_isa(isa);
  return found ? give(rates(found->fma, found->flops, milliseconds, repeats), rates_out) : -1;
}

// GFLOP/s of so many operations in the FMA loop. Nothing runs before, so that the clock is still what it was.
double peak_fma_burst(const char* isa, double flops) {
  const Isa* found = find_isa(isa);
  if (found == nullptr) return -1;
  const long iterations = std::max(1L, static_cast<long>(flops / found->flops));
  const auto start = Clock::now();
  found->fma(iterations);
  return found->flops * static_cast<double>(iterations) / seconds_since(start) * 1e-9;
}

// GB/s of reading so many bytes over and over, the better of one stream and of eight. -2 where there is no memory.
int peak_read(const char* isa, std::size_t bytes, double milliseconds, int repeats, double* rates_out) {
  const Isa* found = find_isa(isa);
  if (found == nullptr) return -1;
  bytes = std::max<std::size_t>(8192, bytes / 8192 * 8192);
  char* data = static_cast<char*>(std::aligned_alloc(4096, bytes));
  if (data == nullptr) return -2;
  std::memset(data, 0, bytes);
  const auto rate_of = [&](ReadFn read) {
    return rates([&](long n) { read(data, bytes, n); }, static_cast<double>(bytes), milliseconds, repeats);
  };
  const std::vector<double> one = rate_of(found->one_stream);
  const std::vector<double> many = rate_of(found->many_streams);
  std::free(data);
  const auto best = [](const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); };
  return give(best(one) > best(many) ? one : many, rates_out);
}

}  // extern "C"
