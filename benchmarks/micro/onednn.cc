#include "onednn.h"

#include <omp.h>

#include <dnnl.hpp>
#include <random>
#include <unordered_map>
#include <vector>

namespace nibble::kernels {
namespace {

using dnnl::memory;
using Type = memory::data_type;
using Tag = memory::format_tag;

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

Type type_of(DstType dst) { return dst == DstType::kInt32 ? Type::s32 : Type::u8; }

dnnl::primitive_attr attributes(DstType dst, std::int64_t channels) {
  dnnl::primitive_attr attr;
  if (dst == DstType::kUint8) attr.set_output_scales(1 << 1, std::vector<float>(static_cast<std::size_t>(channels), 1e-4F));
  return attr;
}

memory filled(const memory::desc& desc, std::uint32_t bits) {
  memory m(desc, engine());
  auto* p = static_cast<std::uint8_t*>(m.get_data_handle());
  std::mt19937 random(1);
  for (std::size_t i = 0; i < desc.get_size(); ++i) p[i] = static_cast<std::uint8_t>(random() & bits);
  return m;
}

// Weights in the order that the primitive asks for, made once.
memory reordered(dnnl::stream& stream, memory plain, const memory::desc& wanted) {
  if (plain.get_desc() == wanted) return plain;
  memory result(wanted, engine());
  dnnl::reorder(plain, result).execute(stream, plain, result);
  stream.wait();
  return result;
}

template <typename Primitive>
PeerKernel runnable(const typename Primitive::primitive_desc& description, const memory::desc& plain_weights, const memory::desc& bias) {
  dnnl::stream stream(engine());
  const memory src = filled(description.src_desc(), 255), dst = filled(description.dst_desc(), 0);
  const memory weights = reordered(stream, filled(plain_weights, 255), description.weights_desc());
  const Primitive primitive(description);
  const std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, src}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_BIAS, filled(bias, 0)}, {DNNL_ARG_DST, dst}};
  return {description.impl_info_str(), [=]() mutable {
            primitive.execute(stream, arguments);
            stream.wait();
          }};
}

}  // namespace

bool limit_onednn(Isa isa, int threads) {
  omp_set_num_threads(threads);
  dnnl::cpu_isa limit = dnnl::cpu_isa::all;
  if (isa == Isa::kReference) limit = dnnl::cpu_isa::sse41;
  if (isa == Isa::kAvx2) limit = dnnl::cpu_isa::avx2;
  if (isa == Isa::kAvxVnni) limit = dnnl::cpu_isa::avx2_vnni;
  if (isa == Isa::kAvx512Vnni) limit = dnnl::cpu_isa::avx512_core_vnni;
  return dnnl::set_max_cpu_isa(limit) == dnnl::status::success;
}

PeerKernel onednn_gemm(std::int64_t m, std::int64_t n, std::int64_t k, DstType dst) {
  try {
    const memory::desc bias({1, n}, Type::s32, Tag::ab);
    const dnnl::matmul::desc op({{m, k}, Type::u8, Tag::ab}, {{k, n}, Type::s8, Tag::any}, bias, {{m, n}, type_of(dst), Tag::ab});
    const dnnl::matmul::primitive_desc description(op, attributes(dst, n), engine());
    return runnable<dnnl::matmul>(description, {{k, n}, Type::s8, Tag::ab}, bias);
  } catch (const dnnl::error&) {
    return {};
  }
}

PeerKernel onednn_conv(const ConvShape& conv, const ImageSizes& sizes, DstType dst) {
  try {
    const std::int64_t group_in = conv.in_channels / conv.groups, group_out = conv.out_channels / conv.groups;
    memory::dims weights{group_out, group_in, conv.kernel_h, conv.kernel_w};
    if (conv.groups > 1) weights.insert(weights.begin(), conv.groups);
    const auto pad_end = [](std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride, std::int64_t dilation,
                            std::int64_t pad) { return (out - 1) * stride + (kernel - 1) * dilation + 1 - in - pad; };
    const memory::desc bias({conv.out_channels}, Type::s32, Tag::x);
    const dnnl::convolution_forward::desc op(
        dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        {{1, conv.in_channels, sizes.in_h, sizes.in_w}, Type::u8, Tag::nhwc}, {weights, Type::s8, Tag::any}, bias,
        {{1, conv.out_channels, sizes.out_h, sizes.out_w}, type_of(dst), Tag::nhwc}, {conv.stride_h, conv.stride_w},
        {conv.dilation_h - 1, conv.dilation_w - 1}, {conv.pad_top, conv.pad_left},
        {pad_end(sizes.in_h, sizes.out_h, conv.kernel_h, conv.stride_h, conv.dilation_h, conv.pad_top),
         pad_end(sizes.in_w, sizes.out_w, conv.kernel_w, conv.stride_w, conv.dilation_w, conv.pad_left)});
    const dnnl::convolution_forward::primitive_desc description(op, attributes(dst, conv.out_channels), engine());
    return runnable<dnnl::convolution_forward>(description, {weights, Type::s8, conv.groups == 1 ? Tag::oihw : Tag::goihw}, bias);
  } catch (const dnnl::error&) {
    return {};
  }
}

}  // namespace nibble::kernels
