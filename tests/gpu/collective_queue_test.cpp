#include <future>
#include <mutex>

#include "gpu/collective/collective_queue.hpp"
#include "gpu/gpu_error.hpp"
#include "tests/gpu/decoder_fixture.hpp"
#include "tests/gpu/train_fixture.hpp"

namespace outlast::gpu::collective_queue_test {
namespace {

// The first of two ranks; the other one adds nothing, and comes to the first reduce-scatter only when it is let.
class LateCollective final : public Collective {
 public:
  [[nodiscard]] std::uint64_t generation() const override { return 1; }
  [[nodiscard]] std::size_t rank() const override { return 0; }
  [[nodiscard]] std::size_t ranks() const override { return 2; }
  Result<void> all_reduce_sum(const Array&) override { return {}; }
  Result<void> reduce_scatter_sum(const Array& numbers) override {
    if (reduced.empty()) {
      begun.set_value();
      come.get_future().wait();
    }
    reduced.push_back(numbers);
    if (fails) return fail(GpuError::peer_lost, "gone");
    return {};
  }
  Result<void> all_gather(const Array& numbers) override {
    gathered.push_back(numbers);
    return {};
  }
  Result<void> broadcast(const Array&, std::size_t) override { return {}; }
  Result<void> pass_on(const Array&, const Array&) override { return {}; }
  Result<void> sum(std::span<double>) override { return {}; }

  Mark mark() override { return std::make_shared<const int>(asked_for); }
  void begin_after(Mark mark) override { after.push_back(*static_cast<const int*>(mark.get())); }

  int asked_for = 0;  // of the device
  std::vector<int> after;
  std::promise<void> begun;
  std::promise<void> come;
  bool fails = false;
  std::vector<Array> reduced;
  std::vector<Array> gathered;
};

TEST_CASE("operations wait for other ranks while their caller does not", "[gpu][collective]") {
  LateCollective late;
  CollectiveQueue queue(late);
  std::vector<float> numbers(8);
  const Array array{numbers.data(), numbers.size(), Dtype::f32};
  queue.reduce_scatter_sum(array.part(0, 4));
  late.begun.get_future().wait();
  queue.reduce_scatter_sum(array.part(4, 4));  // returns although the first still waits
  queue.all_gather(array);
  CHECK(late.reduced.empty());
  late.come.set_value();
  REQUIRE(queue.wait());
  REQUIRE(late.reduced.size() == 2);
  CHECK(late.reduced[1].data == numbers.data() + 4);
  CHECK(late.gathered.size() == 1);
}

TEST_CASE("an operation comes after what the device was asked for when it was given, and not after more", "[gpu][collective]") {
  LateCollective late;
  CollectiveQueue queue(late);
  std::vector<float> numbers(8);
  const Array array{numbers.data(), numbers.size(), Dtype::f32};
  for (late.asked_for = 1; late.asked_for < 4; ++late.asked_for) queue.reduce_scatter_sum(array);
  late.come.set_value();
  REQUIRE(queue.wait());
  CHECK(late.after == std::vector<int>{1, 2, 3});
}

TEST_CASE("after an operation that failed the others do not run, and its error is told once", "[gpu][collective]") {
  LateCollective late;
  late.fails = true;
  CollectiveQueue queue(late);
  std::vector<float> numbers(8);
  const Array array{numbers.data(), numbers.size(), Dtype::f32};
  queue.reduce_scatter_sum(array);
  queue.all_gather(array);
  late.come.set_value();
  const auto done = queue.wait();
  REQUIRE_FALSE(done);
  CHECK(is(done.error(), GpuError::peer_lost));
  CHECK(late.gathered.empty());
  CHECK(queue.wait());
}

TEST_CASE("a layer's gradients are whole when it is said to be done, and are sent while the others are computed", "[gpu][collective]") {
  const auto device = need(CpuDevice::make(1));
  ModelConfig config = tiny();
  config.layers = 3;
  const ParameterLayout layout(config);
  const ShardPlan plan(layout, config.layers, 0, 2);
  DecoderLimits limits;
  limits.rows = limits.loss_rows = limits.positions = 16;
  limits.chunk_rows = 8;
  const auto decoder = need(Decoder::make(*device, config, limits));
  const Loaded weights(*device, random_weights(config, layout, 5));
  const Loaded gradients(*device, std::vector<float>(layout.count(), 0.0F));
  PackedBatch batch(*device, {{1, 2, 3, 4, 5}, {7, 8, 9}}, std::vector<float>(8, 1.0F));
  batch.loss.tokens = config.vocabulary;
  std::vector<std::size_t> order;
  std::vector<std::vector<float>> when_done;
  const auto part_of_layer = [&](std::size_t layer) { return numbers_of(gradients.array().part(plan.layer(layer).whole.begin, plan.layer(layer).whole.count)); };
  decoder->loss_and_gradients(view_weights(config, layout, weights), view_weights(config, layout, gradients), batch.batch, batch.loss, [&](std::size_t layer) {
    order.push_back(layer);
    when_done.push_back(part_of_layer(layer));
    if (layer > 0) CHECK(part_of_layer(layer - 1) == std::vector<float>(plan.layer(layer - 1).whole.count, 0.0F));
  });
  REQUIRE(order == std::vector<std::size_t>{2, 1, 0});
  for (std::size_t i = 0; i < order.size(); ++i) CHECK(when_done[i] == part_of_layer(order[i]));
}

TEST_CASE("a trainer sends the last layer's gradients first, and the embedding's last", "[gpu][collective]") {
  LateCollective late;
  late.come.set_value();
  const auto device = need(CpuDevice::make(1));
  const auto samples = counting(20);
  const auto trainer = need(Trainer::make(*device, tiny(), random_weights(tiny(), ParameterLayout(tiny()), 5), samples, quick(), &late));
  REQUIRE(need(trainer->step()).step == 1);
  const ShardPlan plan(ParameterLayout(tiny()), tiny().layers, 0, 2);
  REQUIRE(late.reduced.size() == 4);
  CHECK(late.reduced[0].count == plan.last().whole.count);
  CHECK(late.reduced[1].count == plan.layer(1).whole.count);
  CHECK(late.reduced[2].count == plan.layer(0).whole.count);
  CHECK(late.reduced[3].count == plan.embedding().whole.count);
  CHECK(late.gathered.size() == 4);
}

}  // namespace
}  // namespace outlast::gpu::collective_queue_test
