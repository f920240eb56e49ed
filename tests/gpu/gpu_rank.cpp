// A rank as a process of its own, for tests that kill it: gpu_rank PORT STEPS FOLDER SAVE_INTERVAL EVALUATE_INTERVAL
// [RANK:OPERATION:COUNT:WHEN:SIGNAL …] tells what happens to it in lines on standard output. A fault strikes the rank of that number in
// the first generation, before or after its COUNTth such operation; a later generation counts on. With the operation "stop" it is no
// fault: the rank wants to stop from the COUNTth time on that it is asked.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <sstream>

#include "core/clock.hpp"
#include "gpu/collective/tcp_collective.hpp"
#include "gpu/collective/rendezvous_client.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/train/elastic_trainer.hpp"
#include "tests/gpu/train_fixture.hpp"

namespace outlast::gpu {
namespace {

// In one write, so that a line is there before a signal that follows it.
void tell(const std::string& line) {
  const std::string whole = line + "\n";
  [[maybe_unused]] const auto written = ::write(STDOUT_FILENO, whole.data(), whole.size());
}

std::string now() { return std::to_string(SystemClock().monotonic_ns()); }  // the same for all processes of a machine

struct Fault {
  std::size_t rank = 0;
  std::string operation;
  int count = 0;
  bool after = false;
  int signal = 0;
};

Fault parse_fault(std::string text) {
  for (char& c : text) c = c == ':' ? ' ' : c;
  std::istringstream words(text);
  Fault fault;
  std::string when;
  words >> fault.rank >> fault.operation >> fault.count >> when >> fault.signal;
  fault.after = when == "after";
  return fault;
}

// Of this process.
class Faults {
 public:
  explicit Faults(std::vector<Fault> faults) : faults_(std::move(faults)) {}
  void keep_those_of(std::size_t rank) {
    std::erase_if(faults_, [rank](const Fault& fault) { return fault.rank != rank; });
  }
  void before(const std::string& operation) { strike(operation, ++counts_[operation], false); }
  void after(const std::string& operation) { strike(operation, counts_[operation], true); }
  bool wants_stop() {
    const int count = ++counts_["stop"];
    return std::any_of(faults_.begin(), faults_.end(), [count](const Fault& fault) { return fault.operation == "stop" && count >= fault.count; });
  }

 private:
  void strike(const std::string& operation, int count, bool after) const {
    for (const Fault& fault : faults_) {
      if (fault.operation != operation || fault.count != count || fault.after != after) continue;
      tell("fault " + now());
      ::raise(fault.signal);
    }
  }
  std::vector<Fault> faults_;
  std::map<std::string, int> counts_;
};

class FaultyCollective final : public Collective {
 public:
  FaultyCollective(std::unique_ptr<Collective> inner, Faults& faults) : inner_(std::move(inner)), faults_(faults) {}

  [[nodiscard]] std::uint64_t generation() const override { return inner_->generation(); }
  [[nodiscard]] std::size_t rank() const override { return inner_->rank(); }
  [[nodiscard]] std::size_t ranks() const override { return inner_->ranks(); }
  Result<void> all_reduce_sum(const Array& numbers) override {
    return struck("all_reduce", [this, &numbers] { return inner_->all_reduce_sum(numbers); });
  }
  Result<void> reduce_scatter_sum(const Array& numbers) override {
    return struck("reduce_scatter", [this, &numbers] { return inner_->reduce_scatter_sum(numbers); });
  }
  Result<void> all_gather(const Array& numbers) override {
    return struck("all_gather", [this, &numbers] { return inner_->all_gather(numbers); });
  }
  Result<void> broadcast(const Array& numbers, std::size_t root) override {
    return struck("broadcast", [this, &numbers, root] { return inner_->broadcast(numbers, root); });
  }
  Result<void> pass_on(const Array& to_next, const Array& from_previous) override {
    return struck("pass_on", [this, &to_next, &from_previous] { return inner_->pass_on(to_next, from_previous); });
  }
  Result<void> sum(std::span<double> numbers) override {
    return struck("sum", [this, numbers] { return inner_->sum(numbers); });
  }

 private:
  template <class Operation>
  Result<void> struck(const std::string& name, const Operation& operation) {
    faults_.before(name);
    Result<void> done = operation();
    faults_.after(name);
    return done;
  }

  std::unique_ptr<Collective> inner_;
  Faults& faults_;
};

// Where ranks die while they connect.
class FaultyRendezvous final : public Rendezvous {
 public:
  FaultyRendezvous(Rendezvous& inner, Faults& faults) : inner_(inner), faults_(faults) {}
  Result<Generation> join(std::chrono::milliseconds patience) override { return inner_.join(patience); }
  Result<void> put(std::uint64_t generation, const std::string& key, const std::string& value) override {
    faults_.before("put");
    Result<void> done = inner_.put(generation, key, value);
    faults_.after("put");
    return done;
  }
  Result<std::string> get(std::uint64_t generation, const std::string& key, std::chrono::milliseconds patience) override {
    return inner_.get(generation, key, patience);
  }
  Result<void> leave(std::uint64_t generation, std::chrono::milliseconds patience) override {
    faults_.before("leave");
    return inner_.leave(generation, patience);
  }
  void watch(std::uint64_t generation, std::function<void()> ended) override { inner_.watch(generation, std::move(ended)); }
  void unwatch() override { inner_.unwatch(); }

 private:
  Rendezvous& inner_;
  Faults& faults_;
};

const char* name_of(Origin origin) { return origin == Origin::copies ? "copies" : origin == Origin::checkpoint ? "checkpoint" : "beginning"; }

ElasticEvents telling(Faults& faults) {
  ElasticEvents events;
  events.formed = [](const Generation& generation, Origin origin, std::uint64_t step) {
    tell("formed " + std::to_string(generation.number) + " " + std::to_string(generation.rank) + " " + std::to_string(generation.ranks) + " " + name_of(origin) +
         " " + std::to_string(step));
  };
  events.stepped = [](const StepReport& report) {
    char loss[32];
    std::snprintf(loss, sizeof loss, "%.17g", report.loss);
    tell("step " + std::to_string(report.step) + " " + loss);
  };
  events.rank_lost = [](const Error& error) { tell("lost " + now() + " " + error.message); };
  events.wants_stop = [&faults] { return faults.wants_stop(); };
  events.evaluate = [&faults]() -> Result<Next> {
    faults.before("evaluate");
    tell("evaluated");
    faults.after("evaluate");
    return Next::step;
  };
  events.finish = [&faults]() -> Result<Next> {
    faults.before("finish");
    tell("finished");
    return Next::end;
  };
  return events;
}

Result<bool> run(std::span<char*> arguments) {
  const auto client = RendezvousClient::make("127.0.0.1", static_cast<std::uint16_t>(std::stoi(arguments[1])), "a run of tests");
  if (!client) return fail(client.error());
  const auto device = CpuDevice::make(1);
  if (!device) return fail(device.error());
  std::vector<Fault> parsed;
  for (char* const argument : arguments.subspan(6)) parsed.push_back(parse_fault(argument));
  Faults faults(std::move(parsed));
  const ModelConfig config = tiny();
  const auto weights = [&config]() -> Result<std::vector<float>> { return random_weights(config, ParameterLayout(config), 5); };
  const auto samples = counting(50);
  FaultyRendezvous rendezvous(**client, faults);
  const auto connect = [&rendezvous, &faults](const Generation& generation) -> Result<std::unique_ptr<Collective>> {
    if (generation.number == 1) faults.keep_those_of(generation.rank);
    auto ring = TcpCollective::make(rendezvous, generation, {});
    if (!ring) return ring;
    return std::make_unique<FaultyCollective>(std::move(*ring), faults);
  };
  ElasticOptions options;
  options.folder = arguments[3];
  options.save_interval = std::stoull(arguments[4]);
  options.evaluate_interval = std::stoull(arguments[5]);
  options.patience = std::chrono::seconds(30);
  const auto trainer = ElasticTrainer::make({**device, config, weights, samples, quick()}, {&rendezvous, connect}, options, telling(faults));
  if (!trainer) return fail(trainer.error());
  return (*trainer)->run(std::stoull(arguments[2]));
}

}  // namespace
}  // namespace outlast::gpu

int main(int count, char** arguments) {
  const auto done = outlast::gpu::run({arguments, static_cast<std::size_t>(count)});
  outlast::gpu::tell(!done ? "error " + done.error().message : *done ? "done" : "stopped");
  return done ? 0 : 1;
}
