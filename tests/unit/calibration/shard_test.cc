#include <gtest/gtest.h>

#include "nibble/calibrate.h"
#include "nibble/error.h"

namespace nibble {
namespace {

TEST(Shard, BlocksCoverTheDataInOrder) {
  for (const std::int64_t samples : {0, 1, 2, 7, 100}) {
    for (std::int64_t count = 1; count <= 9; ++count) {
      std::int64_t next = 0;
      for (std::int64_t index = 1; index <= count; ++index) {
        const auto indices = shard_indices(samples, {index, count});
        EXPECT_GE(static_cast<std::int64_t>(indices.size()), samples / count);
        EXPECT_LE(static_cast<std::int64_t>(indices.size()), samples / count + 1);
        for (const std::int64_t i : indices) EXPECT_EQ(i, next++);
      }
      EXPECT_EQ(next, samples);
    }
  }
}

TEST(Shard, Text) {
  EXPECT_EQ(parse_shard("2/5").index, 2);
  EXPECT_EQ(parse_shard("2/5").count, 5);
  for (const char* text :
       {"", "/", "1", "1/", "/2", "0/2", "3/2", "-1/2", "1/-2", "1/2/3", "a/b", " 1/2", "1 /2", "99999999999999999999/1"}) {
    EXPECT_THROW(parse_shard(text), Error) << text;
  }
}

}  // namespace
}  // namespace nibble
