#include "tests/cuda_emulator/emulator.hpp"

#include <algorithm>
#include <boost/context/fiber.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace cuda_emulator {
namespace {

namespace context = boost::context;

constexpr std::size_t stack_bytes = 64U << 10;
constexpr std::size_t stack_stagger = 5 * 64;  // so that their ends, which are what is used, are not all in the same lines of the cache
constexpr std::size_t staggers = 64;
constexpr unsigned block_threads_max = 1'024;
constexpr std::size_t shared_bytes_max = 227U << 10;  // as on an H100
constexpr unsigned char unwritten = 0xFF;             // a NaN in bf16 and fp32

// Stacks for the threads of a block, one block after another.
class Stacks {
 public:
  explicit Stacks(unsigned number) : number_(number) {}
  context::stack_context allocate() const {
    static thread_local std::vector<std::unique_ptr<std::byte[]>> stacks;
    while (stacks.size() <= number_) stacks.push_back(std::make_unique_for_overwrite<std::byte[]>(stack_bytes));
    context::stack_context stack;
    stack.size = stack_bytes - stack_stagger * (number_ % staggers);
    stack.sp = stacks[number_].get() + stack.size;
    return stack;
  }
  void deallocate(context::stack_context& /*stack*/) const {}

 private:
  unsigned number_;
};

enum class Wait { nothing, block, warp };

struct Fiber {
  Thread thread;
  context::fiber own;
  Wait wait = Wait::nothing;
  bool ended = false;
};

struct Warp {
  unsigned arrived = 0;
  Together what = nullptr;
  void* parts[warp_size] = {};
};

// A block that runs.
class Block {
 public:
  Block(const LaunchShape& shape, dim3 block, const std::function<void()>& kernel, std::mt19937& order);
  void run();

  void wait_for_block(bool value);
  void wait_for_warp(Together what, void* part);
  [[nodiscard]] bool any() const { return any_; }
  [[nodiscard]] unsigned char* shared() { return reinterpret_cast<unsigned char*>(shared_.data()); }

 private:
  void give_way() { scheduler_ = std::move(scheduler_).resume(); }
  bool step(unsigned warp);

  const std::function<void()>& kernel_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<unsigned> order_;  // of warps
  std::vector<std::max_align_t> shared_;
  context::fiber scheduler_;
  const bool backwards_;  // whether the last thread of a warp is the first to run
  Fiber* running_ = nullptr;
  bool arrived_any_ = false;
  bool any_ = false;
};

thread_local Block* running_block = nullptr;

Block::Block(const LaunchShape& shape, dim3 block, const std::function<void()>& kernel, std::mt19937& order)
    : kernel_(kernel), fibers_(std::size_t{shape.block.x} * shape.block.y * shape.block.z), warps_(fibers_.size() / warp_size), order_((fibers_.size() + warp_size - 1) / warp_size), shared_(shape.shared / sizeof(std::max_align_t) + 1), backwards_(order() % 2 == 0) {
  std::memset(shared_.data(), unwritten, shared_.size() * sizeof(std::max_align_t));
  std::iota(order_.begin(), order_.end(), 0U);
  std::shuffle(order_.begin(), order_.end(), order);
  for (unsigned number = 0; number < fibers_.size(); ++number) {
    const dim3 thread(number % shape.block.x, number / shape.block.x % shape.block.y, number / shape.block.x / shape.block.y);
    fibers_[number].thread = {thread, block, shape.block, shape.grid, number};
  }
}

void Block::run() {
  running_block = this;
  for (Fiber& fiber : fibers_) {
    fiber.own = context::fiber(std::allocator_arg, Stacks(fiber.thread.number), [this, &fiber](context::fiber&& scheduler) {
      scheduler_ = std::move(scheduler);
      kernel_();
      fiber.ended = true;
      return std::move(scheduler_);
    });
  }
  while (true) {
    // Each warp as far as it gets, so that they are as far apart as they may be.
    for (const unsigned warp : order_) {
      while (step(warp)) {}
    }
    // All that have not ended wait. __syncthreads() is for those.
    bool ended = true;
    for (Fiber& fiber : fibers_) {
      if (fiber.ended) continue;
      ended = false;
      if (fiber.wait == Wait::warp) stop("a warp waits for one of its threads, which waits elsewhere or has ended");
      fiber.wait = Wait::nothing;
    }
    if (ended) break;
    any_ = arrived_any_;
    arrived_any_ = false;
  }
  running_block = nullptr;
  running_thread = nullptr;
}

// Runs those threads of the warp that do not wait; false: none.
bool Block::step(unsigned warp) {
  bool moved = false;
  const std::size_t first = std::size_t{warp} * warp_size;
  const std::size_t threads = std::min<std::size_t>(warp_size, fibers_.size() - first);
  for (std::size_t i = 0; i < threads; ++i) {
    Fiber& fiber = fibers_[first + (backwards_ ? threads - 1 - i : i)];
    if (fiber.ended || fiber.wait != Wait::nothing) continue;
    moved = true;
    running_ = &fiber;
    running_thread = &fiber.thread;
    fiber.own = std::move(fiber.own).resume();
  }
  return moved;
}

void Block::wait_for_block(bool value) {
  arrived_any_ = arrived_any_ || value;
  running_->wait = Wait::block;
  give_way();
}

void Block::wait_for_warp(Together what, void* part) {
  const unsigned number = running_->thread.number / warp_size;
  if (number >= warps_.size()) stop("a warp of less than 32 threads does something together");
  Warp& warp = warps_[number];
  if (warp.arrived > 0 && warp.what != what) stop("a warp does two things at once");
  warp.what = what;
  warp.parts[running_->thread.lane()] = part;
  running_->wait = Wait::warp;
  if (++warp.arrived < warp_size) return give_way();
  what(warp.parts);
  warp.arrived = 0;
  for (unsigned lane = 0; lane < warp_size; ++lane) fibers_[std::size_t{number} * warp_size + lane].wait = Wait::nothing;
}

std::mt19937& order_of_this_thread() {
  static thread_local std::mt19937 order(20'261'127);
  return order;
}

void run_grid(const LaunchShape& shape, const std::function<void()>& kernel) {
  std::vector<dim3> blocks;
  for (unsigned z = 0; z < shape.grid.z; ++z) {
    for (unsigned y = 0; y < shape.grid.y; ++y) {
      for (unsigned x = 0; x < shape.grid.x; ++x) blocks.emplace_back(x, y, z);
    }
  }
  std::mt19937& order = order_of_this_thread();
  std::shuffle(blocks.begin(), blocks.end(), order);
  for (const dim3& block : blocks) Block(shape, block, kernel, order).run();
}

}  // namespace

void stop(std::string_view why) {
  std::fprintf(stderr, "cuda_emulator: %.*s\n", static_cast<int>(why.size()), why.data());
  std::abort();
}

unsigned char* dynamic_shared() { return running_block->shared(); }
void barrier() { running_block->wait_for_block(false); }
bool barrier_or(bool value) {
  running_block->wait_for_block(value);
  return running_block->any();
}
void together(Together what, void* part) { running_block->wait_for_warp(what, part); }

void launch(const LaunchShape& shape, std::function<void()> kernel) {
  const std::size_t threads = std::size_t{shape.block.x} * shape.block.y * shape.block.z;
  const std::size_t blocks = std::size_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  if (threads == 0 || threads > block_threads_max || blocks == 0 || shape.grid.y > 65'535 || shape.grid.z > 65'535 || shape.shared > shared_bytes_max)
    return failed(cudaErrorInvalidConfiguration);
  enqueue(shape.stream, [shape, kernel = std::move(kernel)] { run_grid(shape, kernel); });
}

}  // namespace cuda_emulator
