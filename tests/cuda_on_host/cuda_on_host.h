// What CUDA C++ needs to compile with g++, and how the threads of a block run on the host.
//
// Blocks run one after the other. The threads of a block are fibers, which take turns: each runs to
// the next barrier, and when all are there the next round begins. So there is one order of what
// they do, which `seed` changes. With -DCUDA_ON_HOST_THREADS they are threads of the operating
// system instead, several blocks of them at a time, for the sanitizers of g++ to watch; that is a
// program of its own, which reads its launches from a file.
//
// Shared memory is as large as was asked for, lies between guards, and is NaN when a block begins.

#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <ucontext.h>
#include <utility>
#include <vector>

using std::isfinite;
using std::isinf;
using std::isnan;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __constant__ static const
#define __syncthreads() cuda_on_host::barrier(__LINE__)

struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) double2 {
    double x, y;
};
struct uint3 {
    unsigned x, y, z;
};

template <typename T> inline T __ldg(const T *pointer) { return *pointer; }
template <typename T> inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> inline T max(T a, T b) { return a < b ? b : a; }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline double __longlong_as_double(long long bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline long long __double_as_longlong(double value) {
    long long bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

#ifdef CUDA_ON_HOST_THREADS
static thread_local uint3 threadIdx, blockIdx;
#else
static uint3 threadIdx, blockIdx;
#endif
static uint3 blockDim, gridDim;

namespace cuda_on_host {

struct Kernel {
    const char *name;
    void (*run)(void **arguments);
};
extern const Kernel kernels[];

constexpr size_t GUARD = 512;                      // numbers before and after shared memory
constexpr long long POISON = 0x7ff8dead0000beefLL; // a NaN

struct Shared {
    size_t size; // bytes
    std::vector<long long> memory;

    explicit Shared(size_t size) : size(size), memory(2 * GUARD + (size + 7) / 8, POISON) {}
    double *start() { return reinterpret_cast<double *>(memory.data() + GUARD); }
    void poison() { std::fill(memory.begin(), memory.end(), POISON); }
    bool is_left_alone_outside() const {
        const char *bytes = reinterpret_cast<const char *>(memory.data());
        for (size_t i = 0; i < 8 * memory.size(); i++) {
            bool outside = i < 8 * GUARD || i >= 8 * GUARD + size;
            if (outside && bytes[i] != reinterpret_cast<const char *>(&POISON)[i % 8])
                return false;
        }
        return true;
    }
};

#ifndef CUDA_ON_HOST_THREADS

constexpr size_t STACK = 1 << 17; // bytes
constexpr int ENDED = -1;

struct Fiber {
    void *stack = std::malloc(STACK);
    jmp_buf here;
    ucontext_t start;
    bool has_started = false;
    int at = 0; // the line of the barrier where it waits, or ENDED
};

static std::vector<Fiber *> fibers; // they wait for more work when they have ended
static Fiber *current;
static jmp_buf scheduler;
static Shared *shared_memory;
static const Kernel *kernel;
static void **arguments;

inline double *shared() { return shared_memory->start(); }

static void leave(int at) {
    current->at = at;
    if (!_setjmp(current->here))
        _longjmp(scheduler, 1);
}

inline void barrier(int line) { leave(line); }

static void work() {
    for (;;) {
        kernel->run(arguments);
        leave(ENDED);
    }
}

static void enter(Fiber *fiber) {
    current = fiber;
    if (_setjmp(scheduler))
        return;
    if (fiber->has_started)
        _longjmp(fiber->here, 1);
    fiber->has_started = true;
    getcontext(&fiber->start);
    fiber->start.uc_stack.ss_sp = fiber->stack;
    fiber->start.uc_stack.ss_size = STACK;
    fiber->start.uc_link = nullptr;
    makecontext(&fiber->start, work, 0);
    setcontext(&fiber->start);
}

static std::string where(int thread) {
    int at = fibers[thread]->at;
    std::string text = "thread " + std::to_string(thread);
    return at == ENDED ? text + " has ended" : text + " waits in line " + std::to_string(at);
}

// Runs a block. Returns what was wrong, or nothing.
static std::string run_block(unsigned long long &seed) {
    std::vector<int> order(blockDim.x);
    std::iota(order.begin(), order.end(), 0);
    do {
        for (size_t i = order.size(); seed && i > 1; i--) { // a random order
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            std::swap(order[i - 1], order[(seed >> 33) % i]);
        }
        for (int thread : order) {
            threadIdx.x = thread;
            enter(fibers[thread]);
        }
        for (int thread : order)
            if (fibers[thread]->at != fibers[0]->at)
                return "The threads of a block have to meet at a barrier: " + where(0) + ", " +
                       where(thread) + ".";
    } while (fibers[0]->at != ENDED);
    if (!shared_memory->is_left_alone_outside())
        return "A thread has written outside of shared memory.";
    return "";
}

extern "C" int cuda_on_host_launch(int index, void **given, int grid_x, int grid_y, int block,
                                   size_t shared_bytes, unsigned long long seed, char *error,
                                   size_t error_size) {
    Shared memory(shared_bytes);
    shared_memory = &memory;
    kernel = &kernels[index];
    arguments = given;
    gridDim = {unsigned(grid_x), unsigned(grid_y), 1};
    blockDim = {unsigned(block), 1, 1};
    while (fibers.size() < size_t(block))
        fibers.push_back(new Fiber);
    for (int y = 0; y < grid_y; y++)
        for (int x = 0; x < grid_x; x++) {
            blockIdx = {unsigned(x), unsigned(y), 0};
            memory.poison();
            std::string wrong = run_block(seed);
            if (wrong.empty())
                continue;
            for (Fiber *fiber : fibers) // it may be anywhere
                fiber->has_started = false;
            wrong += " (block " + std::to_string(x) + ", " + std::to_string(y) + ")";
            std::strncpy(error, wrong.c_str(), error_size - 1);
            return 1;
        }
    return 0;
}

#else

} // namespace cuda_on_host
#include <pthread.h>
#include <thread>
namespace cuda_on_host {

constexpr int AT_ONCE = 256; // threads, or those of one block

// Two barriers take turns. With one of them a thread that wakes up late would seem to have waited
// for what others have done since, up to the next barrier, and races would go unseen.
struct Block {
    Shared memory;
    pthread_barrier_t meetings[2];
    std::vector<std::thread> threads;
    Block(size_t shared_bytes, int size) : memory(shared_bytes) {
        for (pthread_barrier_t &meeting : meetings)
            pthread_barrier_init(&meeting, nullptr, size);
    }
    ~Block() {
        for (pthread_barrier_t &meeting : meetings)
            pthread_barrier_destroy(&meeting);
    }
};

static thread_local Block *block;
static thread_local unsigned n_meetings;

inline double *shared() { return block->memory.start(); }
inline void barrier(int) { pthread_barrier_wait(&block->meetings[n_meetings++ % 2]); }

static void launch(const Kernel &kernel, void **arguments, size_t shared_bytes) {
    int size = blockDim.x, n_blocks = gridDim.x * gridDim.y, at_once = max(1, AT_ONCE / size);
    for (int first = 0; first < n_blocks; first += at_once) {
        std::vector<Block *> blocks;
        for (int b = first; b < min(n_blocks, first + at_once); b++) {
            blocks.push_back(new Block(shared_bytes, size));
            for (int thread = 0; thread < size; thread++)
                blocks.back()->threads.emplace_back([=, mine = blocks.back(), &kernel] {
                    block = mine;
                    threadIdx = {unsigned(thread), 0, 0};
                    blockIdx = {unsigned(b % gridDim.x), unsigned(b / gridDim.x), 0};
                    kernel.run(arguments);
                });
        }
        for (Block *each : blocks) {
            for (std::thread &thread : each->threads)
                thread.join();
            if (!each->memory.is_left_alone_outside())
                std::printf("%s has written outside of shared memory.\n", kernel.name);
            delete each;
        }
    }
}

// Of a launch: kernel, grid_x, grid_y, block, bytes of shared memory, number of arguments. Of each
// argument: its size in bytes, how far it begins from an aligned place, and its bytes. The size -1
// says a number of eight bytes, 0 a null pointer.
static int main(const char *path) {
    std::FILE *file = std::fopen(path, "rb");
    long long head[6];
    auto take = [file](void *to, size_t bytes) { return std::fread(to, 1, bytes, file) == bytes; };
    while (take(head, sizeof head)) {
        std::vector<void *> rooms, pointers(head[5]), values(head[5]);
        for (long long i = 0; i < head[5]; i++) {
            long long given[2];
            if (!take(given, sizeof given))
                return 2;
            size_t size = given[0] < 0 ? 8 : given[0];
            char *room = static_cast<char *>(std::malloc(size + given[1]));
            if (!take(room + given[1], size))
                return 2;
            rooms.push_back(room);
            pointers[i] = size ? room + given[1] : nullptr;
            values[i] = given[0] < 0 ? pointers[i] : &pointers[i];
        }
        gridDim = {unsigned(head[1]), unsigned(head[2]), 1};
        blockDim = {unsigned(head[3]), 1, 1};
        launch(kernels[head[0]], values.data(), head[4]);
        for (void *room : rooms)
            std::free(room);
    }
    std::fclose(file);
    return 0;
}

#endif

} // namespace cuda_on_host

#ifdef CUDA_ON_HOST_THREADS
int main(int, char **arguments) { return cuda_on_host::main(arguments[1]); }
#endif
