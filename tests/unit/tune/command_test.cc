#include "tune/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>

#include "nibble/error.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Command : public testing::Test {
 protected:
  void TearDown() override { fs::remove_all(folder); }
  double run(const std::string& command, double seconds = 60) {
    return run_command(command, {Tensor::from<float>({2}, {1, 2}), Tensor::from<float>({2}, {3, 4})}, folder, seconds, nullptr);
  }
  std::string message(const std::string& command, double seconds = 60) {
    try {
      run(command, seconds);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidData);
      return error.what();
    }
    return "no error";
  }
  const std::string folder = (fs::temp_directory_path() / ("nibble command " + std::to_string(getpid()))).string();
};

TEST_F(Command, GetsTheFolderAndPrintsANumber) {
  EXPECT_EQ(run("ls -1 | wc -l; exit 0; true"), run("ls -1 | wc -l; exit 0; true"));
  EXPECT_EQ(run("f() { ls \"$1\"/0.npy \"$1\"/1.npy | wc -l; }; f"), 2);
  EXPECT_EQ(run("printf ' -1.5e1\\n\\n'; :"), -15);
  EXPECT_FALSE(fs::exists(folder)) << "the outputs are left behind";
}

TEST_F(Command, SaysWhatWentWrong) {
  EXPECT_THAT(message("exit 3; :"), HasSubstr("exit code 3"));
  EXPECT_THAT(message("/no/such/program"), HasSubstr("not found"));
  EXPECT_THAT(message("echo good; :"), HasSubstr("found \"good"));
  EXPECT_THAT(message("echo 1 2; :"), HasSubstr("expected one number"));
  EXPECT_THAT(message("echo nan; :"), HasSubstr("expected one number"));
  EXPECT_THAT(message("true"), HasSubstr("expected one number"));
  EXPECT_THAT(message("kill -9 $$; :"), HasSubstr("signal 9"));
}

TEST_F(Command, IsStoppedWithWhatItStarted) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(message("sleep 100 | cat; :", 0.3), HasSubstr("not done after 0.3 s"));
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 50);
}

}  // namespace
}  // namespace nibble
