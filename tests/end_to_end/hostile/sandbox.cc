#include "sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace nibble::hostile {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr int kTimeLimitMs = 120'000;

std::string read_all(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_all(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

// A .npy file of `descr` elements; `body` are their bytes.
std::string npy(const std::string& descr, const std::string& shape, const std::string& body) {
  std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string bytes = "\x93NUMPY";
  bytes += '\x01';
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  return bytes + header + body;
}

std::string floats(std::size_t count, float value) {
  std::string bytes(count * sizeof(float), '\0');
  for (std::size_t i = 0; i < count; ++i) std::memcpy(&bytes[i * sizeof(float)], &value, sizeof(float));
  return bytes;
}

void reset_to_default(int signal) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
}

}  // namespace

Sandbox::Sandbox() {
  std::string pattern = (fs::temp_directory_path() / "nibble-hostile-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
  const fs::path demo = fs::path(NIBBLE_REPOSITORY) / "examples/demo";
  const std::string model = read_all(demo / "shapes.onnx");
  const std::string recipe = read_all(demo / "shapes.preprocess.json");

  // Models: a good one with its recipe, one without a recipe, and files that are none.
  write_all(path_ / "model.onnx", model);
  write_all(path_ / "model.preprocess.json", recipe);
  write_all(path_ / "no_recipe.onnx", model);
  write_all(path_ / "empty.onnx", "");
  write_all(path_ / "text.onnx", "this is no model\n");
  write_all(path_ / "half.onnx", model.substr(0, model.size() / 2));
  write_all(path_ / "zeros.onnx", std::string(4096, '\0'));
  fs::create_directory(path_ / "folder.onnx");
  fs::create_symlink("model.onnx", path_ / "link.onnx");
  fs::create_symlink("loop.onnx", path_ / "loop.onnx");
  fs::create_symlink("nowhere.onnx", path_ / "dangling.onnx");
  write_all(path_ / "old.onnx", "an old file that must survive a failure\n");
  if (mkfifo((path_ / "fifo.onnx").c_str(), 0600) != 0) throw std::runtime_error("mkfifo failed");

  // Data that is good.
  for (const char* name : {"circle", "star"}) {
    for (const char* file : {"000.png", "001.png"}) {
      fs::create_directories(path_ / "images" / name);
      fs::copy_file(demo / "calibration" / name / file, path_ / "images" / name / file);
    }
  }
  const std::string png = read_all(path_ / "images/circle/000.png");
  const std::size_t pixels = 3 * 32 * 32;
  write_all(path_ / "good.npy", npy("<f4", "(1, 3, 32, 32)", floats(pixels, 0.25F)));

  // Data that is not.
  fs::create_directory(path_ / "empty_folder");
  write_all(path_ / "broken_images/broken.png", "no picture");
  write_all(path_ / "half_image/half.png", png.substr(0, png.size() / 2));
  const auto labelled = [&](const std::string& name, const std::string& csv) {
    write_all(path_ / name / "labels.csv", csv);
    write_all(path_ / name / "one.png", png);
  };
  labelled("csv_missing_file", "file,label\none.png,1\nnot_there.png,2\n");
  labelled("csv_bad_label", "file,label\none.png,seven\n");
  labelled("csv_negative_label", "file,label\none.png,-4\n");
  labelled("csv_huge_label", "file,label\none.png,99999999999999999999\n");
  labelled("csv_no_header", "one.png,1\n");
  labelled("csv_no_label_column", "file,class\none.png,1\n");
  labelled("csv_short_row", "file,label\none.png\n");
  labelled("csv_only_header", "file,label\n");
  labelled("csv_empty", "");
  labelled("csv_quote", "file,label\n\"one.png,1\n");
  labelled("csv_outside", "file,label\n../images/circle/not_there.png,1\n");
  write_all(path_ / "unknown.dat", "what is this?");
  write_all(path_ / "nan.npy", npy("<f4", "(1, 3, 32, 32)", floats(pixels, std::strtof("nan", nullptr))));
  write_all(path_ / "nan_folder/0.npy", npy("<f4", "(1, 3, 32, 32)", floats(pixels, std::strtof("nan", nullptr))));
  write_all(path_ / "inf_folder/0.npy", npy("<f4", "(1, 3, 32, 32)", floats(pixels, std::strtof("inf", nullptr))));
  write_all(path_ / "wrong_shape.npy", npy("<f4", "(1, 5, 7)", floats(35, 1)));
  write_all(path_ / "wrong_shape_folder/0.npy", npy("<f4", "(1, 5, 7)", floats(35, 1)));
  write_all(path_ / "short.npy", npy("<f4", "(1, 3, 32, 32)", floats(7, 1)));
  write_all(path_ / "short_folder/0.npy", npy("<f4", "(1, 3, 32, 32)", floats(7, 1)));
  write_all(path_ / "huge.npy", npy("<f4", "(4611686018427387904, 4611686018427387904)", floats(7, 1)));
  write_all(path_ / "negative.npy", npy("<f4", "(-1, 3, 32, 32)", floats(pixels, 1)));
  write_all(path_ / "object.npy", npy("|O", "(1,)", "12345678"));
  write_all(path_ / "text.npy", "no array");
  write_all(path_ / "empty.npy", "");
  write_all(path_ / "text.npz", "no archive");
  write_all(path_ / "half.npz", std::string("PK\x03\x04\x14\0\0\0\0\0", 10));
  write_all(path_ / "list.txt", "good.npy\nnot_there.npy\n");
  write_all(path_ / "empty_list.txt", "");
  write_all(path_ / "idx/t10k-images-idx3-ubyte", std::string("\0\0\x08\x03\0\0\0\x09\0\0\0\x1c\0\0\0\x1c", 16) + "too short");
  write_all(path_ / "idx/t10k-labels-idx1-ubyte", std::string("\0\0\x08\x01\0\0\0\x09", 8) + "123456789");
  write_all(path_ / "cifar/test_batch.bin", std::string(3073 + 100, '\x03'));
  fs::create_directory(path_ / "test_data_set_0");

  // Recipes, ranges, schemes.
  write_all(path_ / "recipe_text.json", "no json");
  write_all(path_ / "recipe_unknown_key.json", R"({"layout": "NCHW", "colour": "RGB"})");
  write_all(path_ / "recipe_bad_type.json", R"({"divide": "many"})");
  write_all(path_ / "recipe_zero_std.json", R"({"layout": "NCHW", "std": [0, 0, 0]})");
  write_all(path_ / "recipe_huge.json", R"({"resize": {"exact": [2000000000, 2000000000]}, "layout": "NCHW"})");
  write_all(path_ / "recipe_negative.json", R"({"resize": {"short_side": -5}, "layout": "NCHW"})");
  write_all(path_ / "recipe_array.json", "[1, 2, 3]");
  write_all(path_ / "json_text.json", "no json");
  write_all(path_ / "json_array.json", "[]");
  write_all(path_ / "json_unknown_key.json", R"({"frobnicate": 1})");
  write_all(path_ / "json_deep.json", std::string(100'000, '['));
  write_all(path_ / "scheme_bad_bits.json", R"({"weights": {"bit_width": 99}})");
  write_all(path_ / "scheme_bad_regex.json", R"({"rules": [{"node": "(", "quantized": false}]})");
}

Sandbox::~Sandbox() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::set<std::string> Sandbox::listing() const {
  std::set<std::string> result;
  for (const auto& entry : fs::recursive_directory_iterator(path_)) {
    std::string line = fs::relative(entry.path().parent_path(), path_).string() + "/" + entry.path().filename().string();
    if (entry.is_symlink()) {
      line += " -> " + fs::read_symlink(entry.path()).string();
    } else if (entry.is_regular_file()) {
      line += " " + std::to_string(entry.file_size());
    }
    result.insert(line);
  }
  return result;
}

Outcome Sandbox::run(const std::vector<std::string>& arguments, const RunOptions& options) const {
  std::array<int, 2> out_pipe{}, err_pipe{};
  if (pipe2(out_pipe.data(), O_CLOEXEC) != 0 || pipe2(err_pipe.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
  std::vector<std::string> words = {NIBBLE_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    if (chdir(path_.c_str()) != 0) _exit(125);
    const int null = open("/dev/null", O_RDONLY);
    const int full = options.stdout_full ? open("/dev/full", O_WRONLY) : out_pipe[1];
    if (null < 0 || full < 0 || dup2(null, 0) < 0 || dup2(full, 1) < 0 || dup2(err_pipe[1], 2) < 0) _exit(125);
    for (const std::string& variable : options.environment) putenv(const_cast<char*>(variable.c_str()));
    // SIGINT may have been ignored by whoever started the tests in the background.
    reset_to_default(SIGINT);
    if (options.file_size_limit > 0) {
      // With the signal ignored, write() fails with EFBIG, as it fails with ENOSPC on a full disk.
      std::signal(SIGXFSZ, SIG_IGN);
      const rlim_t limit = static_cast<rlim_t>(options.file_size_limit);
      const struct rlimit both = {limit, limit};
      setrlimit(RLIMIT_FSIZE, &both);
    }
    execv(argv[0], argv.data());
    _exit(126);
  }
  close(out_pipe[1]);
  close(err_pipe[1]);

  Outcome outcome;
  const auto start = Clock::now();
  const auto elapsed_ms = [&] {
    return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count());
  };
  bool interrupted = options.interrupt_after_ms == 0;
  std::array<pollfd, 2> polls = {pollfd{out_pipe[0], POLLIN, 0}, pollfd{err_pipe[0], POLLIN, 0}};
  while (polls[0].fd >= 0 || polls[1].fd >= 0) {
    const int until = interrupted ? kTimeLimitMs : options.interrupt_after_ms;
    const int wait_ms = until - elapsed_ms();
    const int ready = wait_ms > 0 ? poll(polls.data(), polls.size(), wait_ms) : 0;
    if (ready < 0 && errno != EINTR) break;
    if (ready == 0) {
      if (!interrupted) {
        kill(child, SIGINT);
        interrupted = true;
        continue;
      }
      outcome.timed_out = true;
      kill(child, SIGKILL);
      break;
    }
    for (pollfd& one : polls) {
      if (one.fd < 0 || (one.revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      std::array<char, 65536> buffer{};
      const ssize_t count = read(one.fd, buffer.data(), buffer.size());
      std::string& text = one.fd == out_pipe[0] ? outcome.out : outcome.err;
      if (count > 0) {
        text.append(buffer.data(), static_cast<std::size_t>(count));
      } else {
        one.fd = -1;
      }
    }
  }
  close(out_pipe[0]);
  close(err_pipe[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  return outcome;
}

}  // namespace nibble::hostile
