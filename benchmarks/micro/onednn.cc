#include "onednn.h"

#include <omp.h>

#include <dnnl.hpp>
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

bool limit_onednn(Isa isa) {
  omp_set_num_threads(1);
  dnnl::cpu_isa limit = dnnl::cpu_isa::all;
  if (isa == Isa::kReference) limit = dnnl::cpu_isa::sse41;
  if (isa == Isa::kAvx2) limit = dnnl::cpu_isa::avx2;
  if (isa == Isa::kAvxVnni) limit = dnnl::cpu_isa::avx2_vnni;
  if (isa == Isa::kAvx512Vnni) limit = dnnl::cpu_isa::avx512_core_vnni;
  return dnnl::set_max_cpu_isa(limit) == dnnl::status::success;
}

PeerKernel onednn_gemm(const GemmCase& gemm, DstType dst) {
  try {
    const dnnl::matmul::desc op({{gemm.m, gemm.k}, Type::u8, Tag::ab}, {{gemm.k, gemm.n}, Type::s8, Tag::any},
                                {{1, gemm.n}, Type::s32, Tag::ab}, {{gemm.m, gemm.n}, type_of(dst), Tag::ab});
    const dnnl::matmul::primitive_desc description(op, attributes(dst, gemm.n), engine());
    return runnable<dnnl::matmul>(description, {{gemm.k, gemm.n}, Type::s8, Tag::ab}, {{1, gemm.n}, Type::s32, Tag::ab});
  } catch (const dnnl::error&) {
    return {};
  }
}

PeerKernel onednn_conv(const ConvCase& conv, DstType dst) {
  try {
    const memory::dims weights = conv.groups == 1
                                     ? memory::dims{conv.out, conv.in, conv.kernel, conv.kernel}
                                     : memory::dims{conv.groups, conv.out / conv.groups, conv.in / conv.groups, conv.kernel, conv.kernel};
    const std::int64_t out = conv.out_image(), pad = conv.kernel / 2;
    const std::int64_t pad_end = (out - 1) * conv.stride + conv.kernel - conv.image - pad;
    const dnnl::convolution_forward::desc op(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
                                             {{1, conv.in, conv.image, conv.image}, Type::u8, Tag::nhwc}, {weights, Type::s8, Tag::any},
                                             {{conv.out}, Type::s32, Tag::x}, {{1, conv.out, out, out}, type_of(dst), Tag::nhwc},
                                             {conv.stride, conv.stride}, {pad, pad}, {pad_end, pad_end});
    const dnnl::convolution_forward::primitive_desc description(op, attributes(dst, conv.out), engine());
    return runnable<dnnl::convolution_forward>(description, {weights, Type::s8, conv.groups == 1 ? Tag::oihw : Tag::goihw},
                                               {{conv.out}, Type::s32, Tag::x});
  } catch (const dnnl::error&) {
    return {};
  }
}

}  // namespace nibble::kernels
