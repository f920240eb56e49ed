// outlast-simulate: whole clusters under virtual time, one after another by their seeds.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <unistd.h>

#include "tests/cluster/simulate/sim_world.hpp"

namespace {

using outlast::cluster::simulation::SimReport;
using outlast::cluster::simulation::SimWorld;

std::uint64_t running_seed = 0;
const SimWorld* running = nullptr;

// A check() that fails ends the process: by then nobody else can say which seed it was.
void on_abort(int) {
  std::fprintf(stderr, "seed %llu ended by a failed check; the last events were:\n", static_cast<unsigned long long>(running_seed));
  if (running != nullptr) {
    for (const std::string& event : running->trace().last()) std::fprintf(stderr, "  %s\n", event.c_str());
  }
  ::_exit(1);
}

struct Options {
  std::uint64_t seeds = 100;
  std::uint64_t from = 1;
  std::uint64_t stride = 1;
  bool verbose = false;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--verbose") {
      options.verbose = true;
      continue;
    }
    std::uint64_t* const number = name == "--seeds"    ? &options.seeds
                                  : name == "--from"   ? &options.from
                                  : name == "--stride" ? &options.stride
                                                       : nullptr;
    if (number == nullptr || i + 1 == argc) return false;
    *number = std::strtoull(argv[++i], nullptr, 10);
  }
  return options.stride > 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: outlast-simulate [--seeds N] [--from S] [--stride D] [--verbose]\n");
    return 2;
  }
  std::signal(SIGABRT, on_abort);
  const auto begin = std::chrono::steady_clock::now();
  auto told = begin;
  std::uint64_t failed = 0;
  std::uint64_t done = 0;
  for (; done < options.seeds; ++done) {
    running_seed = options.from + done * options.stride;
    SimWorld world(running_seed, options.verbose);
    running = &world;
    const SimReport report = world.run();
    running = nullptr;
    if (!report.broken.empty()) {
      ++failed;
      std::printf("seed %llu, step %llu: %s\n", static_cast<unsigned long long>(running_seed),
                  static_cast<unsigned long long>(report.step), report.broken.c_str());
      for (const std::string& event : report.last_events) std::printf("  %s\n", event.c_str());
    }
    if (options.verbose || options.seeds == 1) {
      std::printf("seed %llu: digest %016llx, %llu steps, %llu entries, %llu owners, %llu faults, %llu served, %llu spooled, "
                  "%llu replayed, %llu unavailable, %llu exhausted\n",
                  static_cast<unsigned long long>(running_seed), static_cast<unsigned long long>(report.digest),
                  static_cast<unsigned long long>(report.step), static_cast<unsigned long long>(report.entries),
                  static_cast<unsigned long long>(report.owners), static_cast<unsigned long long>(report.faults),
                  static_cast<unsigned long long>(report.counts.served), static_cast<unsigned long long>(report.counts.spooled),
                  static_cast<unsigned long long>(report.counts.replayed),
                  static_cast<unsigned long long>(report.counts.unavailable),
                  static_cast<unsigned long long>(report.counts.exhausted));
    }
    const auto now = std::chrono::steady_clock::now();
    if (now - told > std::chrono::seconds(10)) {
      told = now;
      const double seconds = std::chrono::duration<double>(now - begin).count();
      std::fprintf(stderr, "%llu of %llu seeds, %.1f seeds/s\n", static_cast<unsigned long long>(done + 1),
                   static_cast<unsigned long long>(options.seeds), static_cast<double>(done + 1) / seconds);
    }
  }
  std::printf("%llu seeds, %llu failed\n", static_cast<unsigned long long>(done), static_cast<unsigned long long>(failed));
  return failed == 0 ? 0 : 1;
}
