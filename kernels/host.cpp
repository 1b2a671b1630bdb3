// Runs a kernel's grid on the CPU: reads a launch from standard input, writes what it changed to standard output. Part of the
// tests alone. Stricter than a GPU:
// - every tensor, and the shared memory, ends at a page that cannot be touched, so that reading or writing behind it crashes;
// - results and shared memory begin as NaN, so that what is not written shows;
// - the grid runs twice, blocks and threads from the first to the last and from the last to the first, and must give the same
//   bits: a missing barrier, or two blocks that write one place, shows;
// - threads of a block that wait at different barriers are an error;
// - copies in the background arrive when their thread waits for them, no sooner; those, and the rows of a warp's matrices, must
//   lie at multiples of 16 bytes.
#include "host.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

Dim threadIdx, blockIdx, blockDim;
float* emulated_shared;

void fail(const std::string& problem) {
  std::fprintf(stderr, "%s\n", problem.c_str());
  std::exit(1);
}

static std::map<std::string, Known>& kernels() {
  static std::map<std::string, Known> all;
  return all;
}

// norm/rms_norm_f32 is the kernel rms_norm_f32 of norm.cu.
bool add_kernel(const char* source, const char* name, Known kernel) {
  return kernels().emplace(std::filesystem::path(source).stem().string() + "/" + name, kernel).second;
}

// Threads of a block: each a context of its own, entered and left with longjmp.
enum class State { Ready, AtWarpBarrier, AtBlockBarrier, Done };

struct Thread {
  State state;
  bool started;
  ucontext_t start;
  jmp_buf at;
  std::unique_ptr<char[]> stack;
  unsigned calls;
  Given slots[2];
  std::vector<std::pair<void*, const void*>> copies;
};

static const size_t STACK = 64 << 10;
static std::vector<Thread> threads;
static jmp_buf scheduler;
static const Known* kernel;
static const Argument* arguments;

static void stop_here(State state) {
  Thread& thread = threads[threadIdx.x];
  thread.state = state;
  if (!_setjmp(thread.at)) _longjmp(scheduler, 1);
}

static void thread_main() {
  for (;;) {
    kernel->call(arguments);
    stop_here(State::Done);
  }
}

static void go_on(unsigned index) {
  threadIdx.x = index;
  if (_setjmp(scheduler)) return;
  Thread& thread = threads[index];
  if (thread.started) _longjmp(thread.at, 1);
  thread.started = true;
  getcontext(&thread.start);
  thread.stack.reset(new char[STACK]); // not cleared: most of it is never touched
  thread.start.uc_stack.ss_sp = thread.stack.get();
  thread.start.uc_stack.ss_size = STACK;
  makecontext(&thread.start, thread_main, 0);
  setcontext(&thread.start);
}

void __syncthreads() { stop_here(State::AtBlockBarrier); }

void emulated_copy(void* to, const void* from) {
  if ((uintptr_t)to % 16 || (uintptr_t)from % 16) fail("a copy that is not at a multiple of 16 bytes");
  threads[threadIdx.x].copies.emplace_back(to, from);
}

void emulated_wait() {
  for (auto [to, from] : threads[threadIdx.x].copies) {
    if (from == nullptr) {
      std::memset(to, 0, 16);
    } else {
      std::memcpy(to, from, 16);
    }
  }
  threads[threadIdx.x].copies.clear();
}

void __syncwarp() { stop_here(State::AtWarpBarrier); }

void give(Given given) {
  Thread& thread = threads[threadIdx.x];
  // Two slots in turn: a thread that is one call ahead leaves the other's value alone.
  thread.slots[thread.calls++ % 2] = given;
  stop_here(State::AtWarpBarrier);
}

const Given& given_by(unsigned lane) {
  unsigned slot = (threads[threadIdx.x].calls - 1) % 2;
  return threads[threadIdx.x / 32 * 32 + lane].slots[slot];
}

float __shfl_xor_sync(unsigned mask, float x, int step) {
  if (mask != 0xffffffffu) fail("a shuffle of a part of a warp");
  give({{bits_of(x)}});
  return float_of((uint32_t)given_by((threadIdx.x % 32) ^ (unsigned)step).words[0]);
}

static bool all(unsigned from, unsigned to, State state) {
  for (unsigned i = from; i < to; i++)
    if (threads[i].state != state) return false;
  return true;
}

static void release(unsigned from, unsigned to) {
  for (unsigned i = from; i < to; i++) threads[i].state = State::Ready;
}

// Runs a warp until its threads are done or wait for the block.
static void run_warp(unsigned from, bool backwards) {
  for (;;) {
    for (unsigned i = 0; i < 32; i++) {
      unsigned index = from + (backwards ? 31 - i : i);
      if (threads[index].state == State::Ready) go_on(index);
    }
    if (!all(from, from + 32, State::AtWarpBarrier)) break;
    release(from, from + 32);
  }
  if (!all(from, from + 32, State::AtBlockBarrier) && !all(from, from + 32, State::Done)) {
    fail("threads of a warp wait at different barriers");
  }
}

static void run_block(bool backwards) {
  unsigned count = blockDim.x;
  release(0, count);
  while (!all(0, count, State::Done)) {
    for (unsigned warp = 0; warp < count / 32; warp++) {
      run_warp((backwards ? count / 32 - 1 - warp : warp) * 32, backwards);
    }
    if (all(0, count, State::AtBlockBarrier)) {
      release(0, count);
    } else if (!all(0, count, State::Done)) {
      fail("warps of a block wait at different barriers");
    }
  }
}

// Memory that ends at a page that nobody may touch; at least as aligned as its size is.
static char* guarded(size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
  char* start = (char*)mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED || mprotect(start + whole, page, PROT_NONE)) fail("no memory");
  return start + whole - bytes;
}

struct Tensor {
  std::vector<char> before, forwards;
  char* data = nullptr;
};

static void read_all(void* to, size_t bytes) {
  if (bytes && std::fread(to, 1, bytes, stdin) != bytes) fail("the launch ends early");
}

template <class T> static T read_number() {
  T number;
  read_all(&number, sizeof number);
  return number;
}

int main() {
  std::string name(read_number<uint32_t>(), ' ');
  read_all(&name[0], name.size());
  unsigned grid_x = read_number<uint32_t>(), grid_y = read_number<uint32_t>();
  blockDim = {read_number<uint32_t>(), 1};
  size_t shared_bytes = read_number<uint32_t>();
  std::vector<Argument> given(read_number<uint32_t>());
  std::vector<Tensor> tensors(given.size());
  for (size_t i = 0; i < given.size(); i++) {
    given[i].kind = (Kind)read_number<uint8_t>();
    if (given[i].kind == Kind::Unsigned || given[i].kind == Kind::Float) {
      given[i].number = read_number<uint32_t>();
      continue;
    }
    given[i].type = (Type)read_number<uint8_t>();
    tensors[i].before.assign(read_number<uint64_t>(), (char)0xff);
    if (given[i].kind != Kind::Output) read_all(tensors[i].before.data(), tensors[i].before.size());
    given[i].data = tensors[i].data = guarded(tensors[i].before.size());
  }
  auto found = kernels().find(name);
  if (found == kernels().end()) fail("no kernel " + name);
  kernel = &found->second;
  if (kernel->parameters != given.size()) fail(name + " takes another number of arguments");
  if (blockDim.x % 32 || blockDim.x == 0 || blockDim.x > 1024) fail("a block of threads that are not whole warps, up to 1024");
  if (shared_bytes > 48 << 10) fail("more than 48 KiB of shared memory");
  if (grid_x == 0 || grid_y == 0 || grid_y > 65535) fail("an empty grid, or one too large");
  arguments = given.data();
  emulated_shared = (float*)guarded(shared_bytes);
  threads.resize(blockDim.x);
  for (bool backwards : {false, true}) {
    for (Tensor& tensor : tensors)
      if (!tensor.before.empty()) std::memcpy(tensor.data, tensor.before.data(), tensor.before.size());
    for (unsigned i = 0; i < grid_x * grid_y; i++) {
      unsigned block = backwards ? grid_x * grid_y - 1 - i : i;
      blockIdx = {block % grid_x, block / grid_x};
      std::memset(emulated_shared, 0xff, shared_bytes);
      run_block(backwards);
    }
    for (size_t i = 0; i < given.size(); i++) {
      Tensor& tensor = tensors[i];
      size_t bytes = tensor.before.size();
      if (tensor.data == nullptr) continue;
      if (!backwards) tensor.forwards.assign(tensor.data, tensor.data + bytes);
      bool changed = given[i].kind == Kind::Read && std::memcmp(tensor.data, tensor.before.data(), bytes);
      if (changed) fail("a tensor to read was written");
      if (std::memcmp(tensor.data, tensor.forwards.data(), bytes)) fail(name + " depends on the order of threads");
    }
  }
  for (size_t i = 0; i < given.size(); i++) {
    if (given[i].kind == Kind::Update || given[i].kind == Kind::Output) {
      std::fwrite(tensors[i].data, 1, tensors[i].before.size(), stdout);
    }
  }
}
