// Steps that are repeated, as CUDA graphs: a step's hundreds of launches are one.
#include <map>
#include <utility>

#include "core/log.hpp"
#include "gpu/cuda/cuda_device.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t steps_max = 256;  // that are kept; then all are forgotten

}  // namespace

class CudaRepeats final : public Repeats {
 public:
  explicit CudaRepeats(CudaDevice& device) : device_(device) {}
  // Nothing is destroyed that may still run.
  ~CudaRepeats() override { (void)cudaStreamSynchronize(device_.stream()); }
  CudaRepeats(const CudaRepeats&) = delete;
  CudaRepeats& operator=(const CudaRepeats&) = delete;

  Array run(std::uint64_t key, const std::function<Array()>& work) override {
    if (!can_record_ || !device_.failure_.empty()) return work();
    auto step = steps_.find(key);
    // What is made once is made the first time: a product's algorithm, more scratch memory. Memory that has moved since is what the
    // graph still has.
    if (step == steps_.end() || step->second.scratch != device_.scratch_) {
      if (steps_.size() >= steps_max) forget();
      const Array result = work();
      steps_.insert_or_assign(key, Step{device_.scratch_, result, nullptr});
      return result;
    }
    if (!step->second.graph && !record(step->second, work)) return work();
    device_.keep(cudaGraphLaunch(step->second.graph.get(), device_.stream()), "a step that is repeated");
    return step->second.result;
  }

 private:
  struct Destroy {
    void operator()(cudaGraphExec_t graph) const { (void)cudaGraphExecDestroy(graph); }
  };
  struct Step {
    const float* scratch = nullptr;
    Array result;
    std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy> graph;
  };

  void forget() {
    device_.keep(cudaStreamSynchronize(device_.stream()), "waiting for operations");
    steps_.clear();
  }

  // Where it cannot be done, it is not tried again: without graphs steps are right, and slower.
  bool record(Step& step, const std::function<Array()>& work) {
    cudaStream_t const stream = device_.stream();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cudaError_t status = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (status == cudaSuccess) {
      step.result = work();
      status = cudaStreamEndCapture(stream, &graph);
      if (status == cudaSuccess) status = cudaGraphInstantiate(&executable, graph, 0);
      if (graph != nullptr) (void)cudaGraphDestroy(graph);
    }
    step.graph.reset(executable);
    if (status == cudaSuccess && device_.failure_.empty()) return true;
    const std::string reason = device_.failure_.empty() ? cudaGetErrorName(status) : device_.failure_;
    log::warning("cuda_graph_not_recorded", {{"device", device_.name()}, {"reason", reason}});
    (void)cudaGetLastError();
    device_.failure_.clear();
    can_record_ = false;
    forget();
    return false;
  }

  CudaDevice& device_;
  std::map<std::uint64_t, Step> steps_;
  bool can_record_ = true;
};

std::unique_ptr<Repeats> CudaDevice::make_repeats() { return std::make_unique<CudaRepeats>(*this); }

}  // namespace outlast::gpu
