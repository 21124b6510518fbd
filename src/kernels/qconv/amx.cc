// Tiles are loaded from rows at one distance. So the bytes that a block of output pixels reads are gathered first, one row a pixel with all
// of its taps (im2row), as few pixels as the caches hold: beside the product, one byte copied for 16 columns of sums costs little.
#include "kernels/qconv/amx.h"

#include <algorithm>
#include <cstring>

#include "kernels/qgemm/amx.h"
#include "kernels/qgemm/driver.h"

namespace nibble::kernels {

#if defined(NIBBLE_KERNELS_X86)
namespace {

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

// Gathered rows are this far apart.
std::int64_t distance_of(const PackedConv& conv) { return round_up(conv.groups.front().k, kAmxStep); }

// Output pixels gathered at once: what a block of tiles takes, so that they stay in the first-level cache. But weights that the
// second-level cache cannot keep are read once for as many pixels as it can.
std::int64_t pixels_at_once(const PackedConv& conv) {
  const std::int64_t weights = conv.groups.front().panel_bytes * gemm_panels(conv.groups.front());
  constexpr std::int64_t kBlock = 32, kCacheBytes = 1 << 20;
  return weights <= kCacheBytes ? kBlock : std::max(kCacheBytes / 2 / distance_of(conv) / kBlock * kBlock, kBlock);
}

// A row of taps in src, or in a gathered row.
std::int64_t padded_run(const PackedConv& conv) { return round_up(conv.run, 4); }

std::int64_t zeros_bytes(const PackedConv& conv) { return round_up(conv.shape.kernel_w * padded_run(conv), 64); }

std::int64_t bias_bytes(const PackedConv& conv) {
  return round_up((conv.groups.front().n + kChannelSlack) * static_cast<std::int64_t>(sizeof(std::int32_t)), 64);
}

class Gather {
 public:
  Gather(const PackedConv& conv, const ConvCall& call, std::int64_t first_channel, const std::uint8_t* zeros)
      : s_(conv.shape),
        call_(call),
        channels_(s_.in_channels / static_cast<std::int64_t>(conv.groups.size())),
        first_channel_(first_channel),
        tap_(padded_run(conv)),
        tap_row_(s_.kernel_w * tap_),
        distance_(distance_of(conv)),
        // The taps of a row are neighbours in src as well.
        contiguous_(s_.dilation_w == 1 && call.ld_src == channels_ && tap_ == channels_),
        zeros_(zeros) {}

  // Output pixels [begin, end) of all images, as rows.
  void pixels(std::int64_t begin, std::int64_t end, std::uint8_t* out) const {
    for (std::int64_t pixel = begin; pixel < end;) {
      const std::int64_t ow = pixel % call_.out_w;
      const std::int64_t line = pixel / call_.out_w;
      const std::int64_t count = std::min(end - pixel, call_.out_w - ow);
      row(line / call_.out_h, line % call_.out_h, ow, ow + count, out);
      out += count * distance_;
      pixel += count;
    }
  }

 private:
  // Output pixels [begin, end) of row `oh` of image `b`.
  void row(std::int64_t b, std::int64_t oh, std::int64_t begin, std::int64_t end, std::uint8_t* out) const {
    for (std::int64_t kh = 0; kh < s_.kernel_h; ++kh, out += tap_row_) {
      const std::int64_t ih = oh * s_.stride_h + kh * s_.dilation_h - s_.pad_top;
      if (ih < 0 || ih >= call_.in_h) {
        fill(begin, end, out);
        continue;
      }
      const std::uint8_t* line = call_.src + (b * call_.in_h + ih) * call_.in_w * call_.ld_src + first_channel_;
      if (!contiguous_) {
        taps(line, begin, end, out);
        continue;
      }
      const Range first = inside(0, begin, end);
      const Range last = inside((s_.kernel_w - 1) * s_.dilation_w, begin, end);
      const std::int64_t from = std::min(first.begin, last.end);
      const std::int64_t to = std::max(from, last.end);
      taps(line, begin, from, out);
      copy_rows_avx512(line + (from * s_.stride_w - s_.pad_left) * call_.ld_src, s_.stride_w * call_.ld_src,
                       out + (from - begin) * distance_, distance_, to - from, s_.kernel_w * channels_);
      taps(line, to, end, out + (to - begin) * distance_);
    }
  }

  struct Range {
    std::int64_t begin, end;
  };
  // Of the pixels [begin, end) those whose tap, `offset` columns from the first, lies in the image.
  Range inside(std::int64_t offset, std::int64_t begin, std::int64_t end) const {
    const std::int64_t shift = offset - s_.pad_left;  // iw = ow stride + shift
    const std::int64_t low = shift >= 0 ? 0 : (-shift + s_.stride_w - 1) / s_.stride_w;
    const std::int64_t high = call_.in_w <= shift ? 0 : (call_.in_w - shift + s_.stride_w - 1) / s_.stride_w;
    const std::int64_t from = std::clamp(low, begin, end);
    return {from, std::clamp(high, from, end)};
  }

  void fill(std::int64_t begin, std::int64_t end, std::uint8_t* out) const {
    if (tap_ == channels_) return copy_rows_avx512(zeros_, 0, out, distance_, end - begin, s_.kernel_w * channels_);
    for (std::int64_t kw = 0; kw < s_.kernel_w; ++kw) copy_rows_avx512(zeros_, 0, out + kw * tap_, distance_, end - begin, channels_);
  }

  void taps(const std::uint8_t* line, std::int64_t begin, std::int64_t end, std::uint8_t* out) const {
    if (begin >= end) return;
    for (std::int64_t kw = 0; kw < s_.kernel_w; ++kw, out += tap_) {
      const Range range = inside(kw * s_.dilation_w, begin, end);
      copy_rows_avx512(zeros_, 0, out, distance_, range.begin - begin, channels_);
      copy_rows_avx512(line + (range.begin * s_.stride_w + kw * s_.dilation_w - s_.pad_left) * call_.ld_src, s_.stride_w * call_.ld_src,
                       out + (range.begin - begin) * distance_, distance_, range.end - range.begin, channels_);
      copy_rows_avx512(zeros_, 0, out + (range.end - begin) * distance_, distance_, end - range.end, channels_);
    }
  }

  const ConvShape& s_;
  const ConvCall& call_;
  std::int64_t channels_;
  std::int64_t first_channel_;
  std::int64_t tap_;      // bytes between taps of a gathered row
  std::int64_t tap_row_;  // and between rows of them
  std::int64_t distance_;
  bool contiguous_;
  const std::uint8_t* zeros_;
};

}  // namespace

bool amx_pays(const PackedConv& conv, std::int64_t pixels) {
  const PackedGemm& group = conv.groups.front();
  if (conv.groups.size() > 1 && group.n < 2 * kPanel) return false;  // copies for a single panel
  return conv.isa == Isa::kAmx && !is_gemm(conv.shape) && !conv.gathered && amx_pays(pixels, group.n, conv.taps * conv.run);
}

std::int64_t amx_scratch_bytes(const PackedConv& conv) {
  if (conv.isa != Isa::kAmx || is_gemm(conv.shape) || conv.gathered) return 0;
  return pixels_at_once(conv) * distance_of(conv) + zeros_bytes(conv) + bias_bytes(conv);
}

void qconv_amx(const PackedConv& conv, const ConvCall& call, std::int64_t begin, std::int64_t end, std::span<std::byte> scratch) {
  if (begin >= end) return;
  const ConvShape& s = conv.shape;
  const std::int64_t distance = distance_of(conv);
  const std::int64_t most = pixels_at_once(conv);
  auto* const gathered = reinterpret_cast<std::uint8_t*>(scratch.data());
  std::uint8_t* const zeros = gathered + most * distance;
  auto* const bias = reinterpret_cast<std::int32_t*>(zeros + zeros_bytes(conv));
  const std::int32_t zx = call.dynamic_zero_point ? call.src_zero_point : conv.src_zero_point;
  std::memset(zeros, zx, static_cast<std::size_t>(zeros_bytes(conv)));
  const auto groups = static_cast<std::int64_t>(conv.groups.size());
  const std::int64_t group_in = s.in_channels / groups;
  const std::int64_t group_out = s.out_channels / groups;
  // What pads a run is never written; its weights are 0, but the sums of rows count it.
  if (conv.run != padded_run(conv)) std::memset(gathered, 0, static_cast<std::size_t>(most * distance));

  for (std::int64_t i = 0; i < groups; ++i) {
    const PackedGemm& weights = conv.groups[static_cast<std::size_t>(i)];
    const Gather gather(conv, call, i * group_in, zeros);
    struct Context {
      const Gather& gather;
      std::int64_t begin;
    };
    const Context context{gather, begin};
    QgemmAmx g;
    g.gather = [](const void* from, std::int64_t first, std::int64_t count, std::uint8_t* to) {
      const Context& c = *static_cast<const Context*>(from);
      c.gather.pixels(c.begin + first, c.begin + first + count, to);
    };
    g.context = &context;
    g.gathered = gathered;
    g.gathered_rows = most;
    g.ld_src = distance;
    g.rows = end - begin;
    g.k = weights.k;
    g.wei = weights.wei;
    g.panel_bytes = weights.panel_bytes;
    g.bias = weights.bias;
    if (call.dynamic_zero_point) {
      fold_bias(weights, zx, bias);
      g.bias = bias;
    }
    g.zero_points = weights.zero_points;
    g.requantize = from_channel(call.requantize, i * group_out);
    g.residual = call.residual;
    g.ld_dst = call.ld_dst;
    g.columns = weights.n;
    const std::int64_t offset = begin * call.ld_dst + i * group_out;
    if (call.dst_type == DstType::kInt32)
      g.acc = static_cast<std::int32_t*>(call.dst) + offset;
    else
      g.dst = static_cast<std::uint8_t*>(call.dst) + offset;
    if (call.residual.src != nullptr) g.residual.src = call.residual.src + begin * call.residual.ld_src + i * group_out;
    qgemm_u8s8s32_32x32c64_amx(g);
  }
}

#else

bool amx_pays(const PackedConv&, std::int64_t) { return false; }
std::int64_t amx_scratch_bytes(const PackedConv&) { return 0; }
void qconv_amx(const PackedConv&, const ConvCall&, std::int64_t, std::int64_t, std::span<std::byte>) {}

#endif

}  // namespace nibble::kernels
