// One row an operator with an integer form. Operators that only move values and have no row run through lower_move.
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

struct Row {
  std::string_view op_type;
  LowerFn lower;
};

constexpr Row kRows[] = {
    {"Conv", lower_conv},
    {"ConvTranspose", lower_conv_transpose},
    {"Gemm", lower_matmul},
    {"MatMul", lower_matmul},
    {"Add", lower_add},
    {"Sub", lower_add},
    {"Mul", lower_mul},
    {"MaxPool", lower_max_pool},
    {"GlobalMaxPool", lower_max_pool},
    {"AveragePool", lower_average_pool},
    {"GlobalAveragePool", lower_average_pool},
    {"ReduceMean", lower_reduce_mean},
    {"Min", lower_bound},
    {"Max", lower_bound},
    {"Concat", lower_concat},
    {"Reshape", lower_reshape},
    {"Flatten", lower_reshape},
    {"Squeeze", lower_reshape},
    {"Unsqueeze", lower_reshape},
    {"Identity", lower_reshape},
    {"Dropout", lower_reshape},
    {"Resize", lower_resize},
    {"Upsample", lower_resize},
};

}  // namespace

LowerFn find_lowering(std::string_view op_type) {
  for (const Row& row : kRows) {
    if (row.op_type == op_type) return row.lower;
  }
  return nullptr;
}

}  // namespace nibble
