#include "command.h"
#include "nibble/report.h"

namespace nibble::cli {

void add_benchmark(CLI::App& app, Context&) {
  struct Options {
    std::string model;
    BenchmarkOptions benchmark;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("benchmark", "Time a model on random inputs, float or in integers");
  add_model_option(command, options->model)->required();
  command.add_option("--threads", options->benchmark.threads, "threads")->type_name("N")->check(CLI::Range(1, 256))->capture_default_str();
  command.add_option("--batch", options->benchmark.batch, "size of the batch axis, where the model leaves it open")
      ->type_name("N")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command.add_flag("--per-op", options->benchmark.per_op, "also time each node");
  add_json_option(command, options->json);
  command.callback([options] {
    const BenchmarkResult result = benchmark(load_model(options->model), options->benchmark);
    print(options->json ? to_json(result) : to_text(result));
  });
}

}  // namespace nibble::cli
