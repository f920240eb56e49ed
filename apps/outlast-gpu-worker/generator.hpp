// Generator: a model that stays loaded between jobs, and the answers of all jobs that want it, computed together.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "apps/outlast-gpu-worker/job.hpp"
#include "core/result.hpp"
#include "gpu/decode/decode_engine.hpp"
#include "gpu/decode/json_constraint.hpp"
#include "gpu/decode/label_constraint.hpp"
#include "gpu/device.hpp"
#include "gpu/model/model_folder.hpp"

namespace outlast::worker {

// One owner.
class Generator {
 public:
  explicit Generator(gpu::Device& device);
  ~Generator();
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  // Until this job and those that joined it have ended. Errors: GpuError; of this job where it has not ended, else none.
  Result<void> run(const work::Generate& work, JobContext& context);
  // Gives the device's memory back: other work wants it.
  void unload();

 private:
  struct Loaded;
  struct Job;  // one that generates now

  Result<void> load(const std::string& folder);
  void add(const work::Generate& work, JobContext& context, std::shared_ptr<JobContext> keeps);
  Result<void> submit(Job& job);
  Result<gpu::DecodeRequest> request_of(const Job& job, std::size_t prompt);
  Result<void> prepare_constraint(Job& job);
  void take(const gpu::DecodeEvent& event);
  void end_job(std::size_t at, Result<void> result);
  void cancel_stopped();

  gpu::Device& device_;
  std::unique_ptr<Loaded> loaded_;
  std::vector<std::unique_ptr<Job>> jobs_;
};

}  // namespace outlast::worker
