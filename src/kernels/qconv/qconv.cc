// The driver: pointers for a block of output pixels, then qgemm's tiles.
#include "kernels/qconv/qconv.h"

#include <algorithm>
#include <cstring>

#include "kernels/qconv/amx.h"
#include "kernels/qconv/gather.h"
#include "kernels/qconv/reference.h"
#include "kernels/qgemm/driver.h"

namespace nibble::kernels {
namespace {

constexpr std::int64_t kStride = kRowBlock + kMaxTileRows;  // of the pointer table

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

// Bytes from one gathered pixel to the next: whole groups of four, or whole lines of the cache, as tile registers want them.
std::int64_t gathered_row(const PackedConv& conv) { return round_up(conv.run, conv.isa == Isa::kAmx ? 64 : 4); }

// Pixels that are gathered at once: so many that they stay in the first-level cache.
std::int64_t gathered_pixels(const PackedConv& conv) {
  constexpr std::int64_t kBytes = 16384;
  return std::max(kBytes / gathered_row(conv) / kRowBlock, std::int64_t{1}) * kRowBlock;
}

// How the scratch memory is cut.
struct Scratch {
  std::int64_t pointers = 0;  // bytes of the table
  std::int64_t zeros = 0;     // one pixel of zx
  std::int64_t copies = 0;    // gathered pixels
  std::int64_t bias = 0;
  std::int64_t total() const { return pointers + zeros + copies + bias; }
};

Scratch scratch_of(const PackedConv& conv) {
  Scratch s;
  if (conv.gathered) {
    s.copies = round_up(gathered_pixels(conv) * gathered_row(conv) + kGatherSlack, 64);
  } else {
    s.pointers = round_up(conv.taps * kStride * static_cast<std::int64_t>(sizeof(void*)), 64);
    s.zeros = round_up(conv.shape.in_channels, 64);
  }
  const std::int64_t group_out = conv.groups.front().n;
  s.bias = round_up((group_out + kChannelSlack) * static_cast<std::int64_t>(sizeof(std::int32_t)), 64);
  return s;
}

// A row of output pixels [ow_begin, ow_end) of image row `oh`, entries from `first` on in the table.
struct PixelRun {
  std::int64_t b, oh, ow_begin, ow_end, first;
};

class Pointers {
 public:
  Pointers(const ConvShape& shape, const ConvCall& call, const std::uint8_t** table, const std::uint8_t* zeros)
      : s_(shape), call_(call), table_(table), zeros_(zeros) {}

  // True if a pointer leads into the last bytes of src, so that nothing past its run may be read.
  bool fill(const PixelRun& run) {
    bool at_end = false;
    const std::int64_t step = s_.stride_w * call_.ld_src;
    for (std::int64_t kh = 0; kh < s_.kernel_h; ++kh) {
      const std::int64_t ih = run.oh * s_.stride_h + kh * s_.dilation_h - s_.pad_top;
      const bool inside = ih >= 0 && ih < call_.in_h;
      at_end = at_end || (inside && run.b == call_.batch - 1 && ih == call_.in_h - 1);
      for (std::int64_t kw = 0; kw < s_.kernel_w; ++kw) {
        const std::uint8_t** out = table_ + (kh * s_.kernel_w + kw) * kStride + run.first;
        const std::int64_t count = run.ow_end - run.ow_begin;
        if (!inside) {
          std::fill_n(out, count, zeros_);
          continue;
        }
        const std::int64_t offset = kw * s_.dilation_w - s_.pad_left;  // iw = ow stride + offset
        // The outputs whose iw lies in [0, in_w).
        const std::int64_t low = offset >= 0 ? 0 : (-offset + s_.stride_w - 1) / s_.stride_w;
        const std::int64_t high = call_.in_w - offset <= 0 ? 0 : (call_.in_w - offset + s_.stride_w - 1) / s_.stride_w;
        const std::int64_t begin = std::clamp(low, run.ow_begin, run.ow_end);
        const std::int64_t end = std::clamp(high, begin, run.ow_end);
        std::int64_t i = 0;
        for (; i < begin - run.ow_begin; ++i) out[i] = zeros_;
        const std::uint8_t* p = call_.src + ((run.b * call_.in_h + ih) * call_.in_w + begin * s_.stride_w + offset) * call_.ld_src;
        for (; i < end - run.ow_begin; ++i, p += step) out[i] = p;
        for (; i < count; ++i) out[i] = zeros_;
      }
    }
    return at_end;
  }

 private:
  const ConvShape& s_;
  const ConvCall& call_;
  const std::uint8_t** table_;
  const std::uint8_t* zeros_;
};

}  // namespace

std::int64_t conv_scratch_bytes(const PackedConv& conv) {
  return conv.isa == Isa::kReference ? 0 : std::max(scratch_of(conv).total(), amx_scratch_bytes(conv));
}

void qconv(const PackedConv& conv, const ConvCall& call, std::int64_t begin, std::int64_t end, std::span<std::byte> scratch) {
  if (conv.isa == Isa::kReference) {
    qconv_reference(conv, call, begin, end);
    return;
  }
  const ConvShape& s = conv.shape;
  const Scratch cut = scratch_of(conv);
  const std::int32_t zx = call.dynamic_zero_point ? call.src_zero_point : conv.src_zero_point;
  auto* const bias = reinterpret_cast<std::int32_t*>(scratch.data() + cut.pointers + cut.zeros + cut.copies);

  const bool gemm_itself = is_gemm(s) && call.in_h == call.out_h && call.in_w == call.out_w;
  if (gemm_itself || conv.gathered) {
    PackedGemm weights = conv.groups[0];
    GemmCall gemm{.src = call.src,
                  .ld_src = call.ld_src,
                  .dst = call.dst,
                  .ld_dst = call.ld_dst,
                  .rows = call.batch * call.out_h * call.out_w,
                  .dst_type = call.dst_type,
                  .requantize = call.requantize,
                  .residual = call.residual};
    if (call.dynamic_zero_point) {
      fold_bias(weights, zx, bias);
      gemm.bias = bias;
    }
    if (gemm_itself) {
      weights.k = conv.run;  // of a padded K only the run is read
      qgemm(weights, gemm, begin, end);
      return;
    }
    auto* const rows = reinterpret_cast<std::uint8_t*>(scratch.data() + cut.pointers + cut.zeros);
    const std::int64_t most = gathered_pixels(conv);
    const std::int64_t element = call.dst_type == DstType::kInt32 ? 4 : 1;
    gemm.src = rows;
    gemm.ld_src = gathered_row(conv);
    for (std::int64_t first = begin; first < end; first += gemm.rows) {
      gemm.rows = std::min(most, end - first);
      gather_pixels(s, call, static_cast<std::uint8_t>(zx), first, first + gemm.rows, rows, gemm.ld_src);
      gemm.dst = static_cast<std::byte*>(call.dst) + first * call.ld_dst * element;
      if (call.residual.src != nullptr) gemm.residual.src = call.residual.src + first * call.residual.ld_src;
      qgemm(weights, gemm, 0, gemm.rows);
    }
    return;
  }

  if (amx_pays(conv, end - begin)) {
    qconv_amx(conv, call, begin, end, scratch);
    return;
  }

  auto** const table = reinterpret_cast<const std::uint8_t**>(scratch.data());
  auto* const zeros = reinterpret_cast<std::uint8_t*>(scratch.data() + cut.pointers);
  std::memset(zeros, zx, static_cast<std::size_t>(cut.zeros));
  Pointers pointers(s, call, table, zeros);
  const auto groups = static_cast<std::int64_t>(conv.groups.size());
  const std::int64_t group_in = s.in_channels / groups;
  const std::int64_t group_out = s.out_channels / groups;

  QgemmStrip block;
  block.rows = table;
  block.row_stride = kStride;
  block.taps = conv.taps;
  block.run = conv.run;
  block.residual = call.residual;
  block.ld_dst = call.ld_dst;
  std::int64_t rows = 0;
  for (std::int64_t first = begin; first < end; first += rows) {
    rows = next_rows(end - first);
    bool at_end = false;
    for (std::int64_t done = 0; done < rows;) {
      const std::int64_t pixel = first + done;
      const std::int64_t ow = pixel % call.out_w;
      const std::int64_t line = pixel / call.out_w;
      const std::int64_t count = std::min(rows - done, call.out_w - ow);
      const bool last = pointers.fill({line / call.out_h, line % call.out_h, ow, ow + count, done});
      at_end = at_end || last;
      done += count;
    }
    for (std::int64_t t = 0; t < conv.taps; ++t) repeat_last(table + t * kStride, rows);
    // Past a run lies the next pixel or row, but in the last row of the last image there may be nothing.
    block.may_read_past = !at_end;
    block.count = rows;
    for (std::int64_t g = 0; g < groups; ++g) {
      const PackedGemm& weights = conv.groups[static_cast<std::size_t>(g)];
      block.row_offset = g * group_in;
      block.bias = weights.bias;
      if (call.dynamic_zero_point) {
        fold_bias(weights, zx, bias);
        block.bias = bias;
      }
      block.zero_points = weights.zero_points;
      block.requantize = from_channel(call.requantize, g * group_out);
      const std::int64_t offset = first * call.ld_dst + g * group_out;
      if (call.dst_type == DstType::kInt32)
        block.acc = static_cast<std::int32_t*>(call.dst) + offset;
      else
        block.dst = static_cast<std::uint8_t*>(call.dst) + offset;
      if (call.residual.src != nullptr) block.residual.src = call.residual.src + first * call.residual.ld_src + g * group_out;
      run_row_block(weights, block, 0, gemm_panels(weights));
    }
  }
}

std::string conv_kernel_name(const PackedConv& conv, std::int64_t pixels) {
  return gemm_kernel_name(conv.isa, pixels, conv.groups.front().n, conv.taps * conv.run);
}

}  // namespace nibble::kernels
