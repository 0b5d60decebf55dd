// What CUDA's and HIP's own headers give to a kernel, on a CPU: every unit of a cube is a coroutine, and what
// units do together is asked of `host`, which `cube.rs` fills in.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

namespace emulated {

struct Index {
    uint32_t x, y, z;
};

// A unit's place; the same as in `cube.rs`.
struct Unit {
    Index thread, block, block_dim, grid_dim;
    unsigned char *shared;
    uint32_t plane;
};

// What several units do together; each waits for the others. `line` tells calls apart.
struct Host {
    void (*barrier)(uint32_t line);
    uint64_t (*exchange)(uint64_t value, uint32_t from, uint32_t line);
    uint64_t (*ballot)(uint32_t vote, uint32_t line);
};

extern const Host *host;
extern thread_local const Unit *unit;

inline uint32_t lane() {
    const Unit &u = *unit;
    return (u.thread.x + u.block_dim.x * (u.thread.y + u.block_dim.y * u.thread.z)) % u.plane;
}

template <class T> T exchange(T value, uint32_t from, uint32_t line) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = host->exchange(bits, from % unit->plane, line);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

// Out of the plane: the unit's own value.
template <class T> T shift(T value, int64_t by, uint32_t line) {
    int64_t from = int64_t(lane()) + by;
    bool within = from >= 0 && from < int64_t(unit->plane);
    return exchange(value, within ? uint32_t(from) : lane(), line);
}

inline uint64_t active() {
    return unit->plane == 64 ? ~uint64_t(0) : (uint64_t(1) << unit->plane) - 1;
}

// Calls a kernel with the arguments that pointers lead to.
template <class... A, size_t... I> void call(void (*kernel)(A...), void **at, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<A>> *>(at[I])...);
}

template <class... A> void call(void (*kernel)(A...), void **at) {
    call(kernel, at, std::index_sequence_for<A...>{});
}

} // namespace emulated

#define threadIdx (emulated::unit->thread)
#define blockIdx (emulated::unit->block)
#define blockDim (emulated::unit->block_dim)
#define gridDim (emulated::unit->grid_dim)
#define warpSize (emulated::unit->plane)

#define __syncthreads() emulated::host->barrier(__LINE__)
#define __threadfence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define __threadfence_block() __atomic_thread_fence(__ATOMIC_SEQ_CST)

// CUDA's take a mask; CubeCL names all units.
#define __shfl_sync(mask, value, from) emulated::exchange(value, from, __LINE__)
#define __shfl_xor_sync(mask, value, by) emulated::exchange(value, emulated::lane() ^ (by), __LINE__)
#define __shfl_up_sync(mask, value, by) emulated::shift(value, -int64_t(by), __LINE__)
#define __shfl_down_sync(mask, value, by) emulated::shift(value, int64_t(by), __LINE__)
#define __ballot_sync(mask, vote) uint32_t(emulated::host->ballot(bool(vote), __LINE__))
#define __all_sync(mask, vote) (emulated::host->ballot(bool(vote), __LINE__) == emulated::active())
#define __any_sync(mask, vote) (emulated::host->ballot(bool(vote), __LINE__) != 0)
// HIP's do not.
#define __shfl(value, from) emulated::exchange(value, from, __LINE__)
#define __shfl_xor(value, by) emulated::exchange(value, emulated::lane() ^ (by), __LINE__)
#define __shfl_up(value, by) emulated::shift(value, -int64_t(by), __LINE__)
#define __shfl_down(value, by) emulated::shift(value, int64_t(by), __LINE__)
#define __ballot(vote) emulated::host->ballot(bool(vote), __LINE__)
#define __all(vote) (emulated::host->ballot(bool(vote), __LINE__) == emulated::active())
#define __any(vote) (emulated::host->ballot(bool(vote), __LINE__) != 0)

template <class T> using Same = std::common_type_t<T>;

template <class T> T atomicAdd(T *at, Same<T> by) {
    if constexpr (std::is_integral_v<T>) {
        return __atomic_fetch_add(at, by, __ATOMIC_SEQ_CST);
    } else {
        T old, sum;
        __atomic_load(at, &old, __ATOMIC_SEQ_CST);
        do {
            sum = old + by;
        } while (!__atomic_compare_exchange(at, &old, &sum, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
        return old;
    }
}

template <class T, class F> T emulated_update(T *at, F next) {
    T old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(at, &old, next(old), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}

template <class T> T atomicSub(T *at, Same<T> by) { return __atomic_fetch_sub(at, by, __ATOMIC_SEQ_CST); }
template <class T> T atomicAnd(T *at, Same<T> by) { return __atomic_fetch_and(at, by, __ATOMIC_SEQ_CST); }
template <class T> T atomicOr(T *at, Same<T> by) { return __atomic_fetch_or(at, by, __ATOMIC_SEQ_CST); }
template <class T> T atomicXor(T *at, Same<T> by) { return __atomic_fetch_xor(at, by, __ATOMIC_SEQ_CST); }
template <class T> T atomicExch(T *at, Same<T> by) { return __atomic_exchange_n(at, by, __ATOMIC_SEQ_CST); }
template <class T> T atomicMin(T *at, Same<T> by) {
    return emulated_update(at, [by](T old) { return old < by ? old : by; });
}
template <class T> T atomicMax(T *at, Same<T> by) {
    return emulated_update(at, [by](T old) { return old > by ? old : by; });
}
template <class T> T atomicCAS(T *at, Same<T> from, Same<T> to) {
    __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return from;
}

using std::abs;
inline float max(float a, float b) { return fmaxf(a, b); }
inline float min(float a, float b) { return fminf(a, b); }
template <class A, class B, class = std::enable_if_t<std::is_integral_v<A> && std::is_integral_v<B>>>
auto max(A a, B b) -> std::common_type_t<A, B> {
    return a < b ? b : a;
}
template <class A, class B, class = std::enable_if_t<std::is_integral_v<A> && std::is_integral_v<B>>>
auto min(A a, B b) -> std::common_type_t<A, B> {
    return b < a ? b : a;
}

inline int __popc(uint32_t x) { return __builtin_popcount(x); }
inline int __popcll(uint64_t x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint64_t(a) * b) >> 32; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __fdividef(float a, float b) { return a / b; }

// The vectors that have names of their own.
#define EMULATED_VECTORS(type, name)                                                                                   \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                                           \
    struct name##3 { type x, y, z; };                                                                                  \
    struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; };                        \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                                                   \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                                        \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATED_VECTORS(float, float)
EMULATED_VECTORS(double, double)
EMULATED_VECTORS(int, int)
EMULATED_VECTORS(unsigned int, uint)
EMULATED_VECTORS(short, short)
EMULATED_VECTORS(unsigned short, ushort)
EMULATED_VECTORS(long, long)
EMULATED_VECTORS(unsigned long, ulong)
EMULATED_VECTORS(long long, longlong)
EMULATED_VECTORS(unsigned long long, ulonglong)

// Numbers of 16 bits, whose sums CUDA too makes in f32.
struct __half {
    _Float16 value;
    __half() = default;
    __half(float x) : value(_Float16(x)) {}
    operator float() const { return float(value); }
};
struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(float x) {
        uint32_t wide;
        std::memcpy(&wide, &x, 4);
        bits = x != x ? 0x7fff : uint16_t((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
    }
    operator float() const {
        uint32_t wide = uint32_t(bits) << 16;
        float x;
        std::memcpy(&x, &wide, 4);
        return x;
    }
};
using __hip_bfloat16 = __nv_bfloat16;
struct alignas(4) __half2 { __half x, y; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
using __hip_bfloat162 = __nv_bfloat162;
inline float __half2float(__half x) { return x; }
inline __half __float2half(float x) { return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __nv_bfloat16 __float2bfloat16(float x) { return x; }

namespace emulated {

// Towards zero, as tensor cores add.
inline float cut(double sum) {
    float near = float(sum);
    return std::fabs(double(near)) > std::fabs(sum) ? std::nextafterf(near, 0.0f) : near;
}

// `mma.m16n8k16` of bf16, as PTX lays matrices out: unit 4 g + t holds of rows g and g + 8 of the left one, and of
// column g of the right one, components 2 t, 2 t + 1, 2 t + 8 and 2 t + 9; of the product, columns 2 t and 2 t + 1
// of both rows.
inline void multiply(const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4], float (&d)[4],
                     uint32_t line) {
    uint32_t row = lane() / 4 * 4, column = lane() % 4 * 8;
    float left[2][16], right[2][16];
    auto wide = [](uint64_t words, int at) {
        __nv_bfloat16 x;
        x.bits = uint16_t(words >> (16 * at));
        return float(x);
    };
    auto both = [](uint32_t low, uint32_t high) { return uint64_t(high) << 32 | low; };
    for (uint32_t t = 0; t < 4; t++) {
        uint64_t upper = exchange(both(a[0], a[2]), row + t, line);
        uint64_t lower = exchange(both(a[1], a[3]), row + t, line);
        uint64_t first = exchange(both(b[0], b[1]), column + t, line);
        uint64_t second = exchange(both(b[0], b[1]), column + 4 + t, line);
        for (int i = 0; i < 4; i++) {
            int at = 2 * t + i % 2 + i / 2 * 8;
            left[0][at] = wide(upper, i), left[1][at] = wide(lower, i);
            right[0][at] = wide(first, i), right[1][at] = wide(second, i);
        }
    }
    for (int i = 0; i < 4; i++) {
        float sum = c[i];
        for (int at = 0; at < 16; at++) {
            sum = cut(double(sum) + double(left[i / 2][at]) * double(right[i % 2][at]));
        }
        d[i] = sum;
    }
}

} // namespace emulated
