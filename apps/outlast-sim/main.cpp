// outlast-sim: a provider simulator for trying without keys, for tests and for load.
// docs/simulator.md.
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "apps/outlast-sim/simulator.hpp"

namespace {

constexpr int exit_usage = 2;
constexpr int exit_failure = 1;

void add_options(CLI::App& app, outlast::sim::SimOptions& options, std::string& dialect) {
  app.add_option("--listen", options.listen, "HOST:PORT; port 0 takes a free one")
      ->capture_default_str();
  app.add_option("--control", options.control,
                 "HOST:PORT of a second listener that the fault 'refuse' leaves open");
  app.add_option("--dialect", dialect, "openai or anthropic")
      ->check(CLI::IsMember({"openai", "anthropic"}))
      ->capture_default_str();
  app.add_option("--models", options.models, "models to serve, separated by commas")
      ->delimiter(',')
      ->required();
  app.add_option("--first-token-ms", options.first_token_ms, "delay before the first token");
  app.add_option("--tokens-per-s", options.tokens_per_s, "pace after the first token; 0 for none");
  app.add_option("--tokens", options.tokens, "length of an answer")->capture_default_str();
  app.add_option("--chunk-tokens", options.chunk_tokens, "tokens in an event of a stream")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", options.seed, "another seed gives other texts")->capture_default_str();
  app.add_option("--lanes", options.lanes, "threads")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
}

}  // namespace

int main(int argc, char** argv) {
  outlast::sim::SimOptions options;
  std::string dialect = "openai";
  std::string key_variable;
  std::vector<std::string> faults;
  CLI::App app("A simulated provider: deterministic answers, exact usage, and faults on demand.",
               "outlast-sim");
  add_options(app, options, dialect);
  app.add_option("--api-key-env", key_variable,
                 "environment variable with the only key that is accepted");
  app.add_option("--fault", faults,
                 "a fault as JSON or KEY=VALUE,…; may be repeated (see POST /sim/faults)")
      ->allow_extra_args(false);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : exit_usage;
  }
  options.dialect =
      dialect == "openai" ? outlast::sim::Dialect::openai : outlast::sim::Dialect::anthropic;
  if (!key_variable.empty()) {
    const char* key = std::getenv(key_variable.c_str());
    if (key == nullptr || *key == '\0') {
      std::cerr << "outlast-sim: --api-key-env: " << key_variable << " is not set\n";
      return exit_usage;
    }
    options.api_key = key;
  }
  for (const std::string& text : faults) {
    const auto read = outlast::sim::read_fault_flag(text);
    if (!read) {
      std::cerr << "outlast-sim: --fault: " << read.error() << '\n';
      return exit_usage;
    }
    options.faults.insert(options.faults.end(), read->begin(), read->end());
  }
  outlast::sim::Simulator simulator(std::move(options));
  if (const auto started = simulator.start(); !started) {
    std::cerr << "outlast-sim: " << started.error().message << '\n';
    return exit_failure;
  }
  std::cout << "outlast-sim ready http=" << simulator.address();
  if (!simulator.control_address().empty()) std::cout << " control=" << simulator.control_address();
  std::cout << std::endl;
  simulator.run();
  return 0;
}
