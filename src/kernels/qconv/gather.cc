#include "kernels/qconv/gather.h"

#include <algorithm>
#include <cstring>

namespace nibble::kernels {
namespace {

constexpr std::int64_t kChunk = 16;  // bytes: one vector of any instruction set
static_assert(kChunk == kGatherSlack);

struct Block {
  std::uint8_t* to;
  const std::uint8_t* from;
  std::int64_t to_line, from_line;    // bytes between lines of taps
  std::int64_t to_pixel, from_pixel;  // between pixels
  std::int64_t lines, pixels, chunks;
  std::int64_t row;  // bytes of a pixel's row that count
};

// The zeros that fill a row up: never more than three, and the next row overwrites what is too much.
inline void end_row(std::uint8_t* at) {
  constexpr std::uint32_t kZero = 0;
  std::memcpy(at, &kZero, sizeof(kZero));
}

// Whole chunks, the last of which may go past the line. kLines, kChunks 0: as many as `b` says.
template <int kLines, int kChunks>
void copy_block(const Block& b) {
  std::uint8_t* to = b.to;
  const std::uint8_t* from = b.from;
  const std::int64_t lines = kLines == 0 ? b.lines : kLines, chunks = kChunks == 0 ? b.chunks : kChunks;
  const std::int64_t to_line = b.to_line, from_line = b.from_line, to_pixel = b.to_pixel, from_pixel = b.from_pixel, row = b.row;
  for (std::int64_t p = b.pixels; p > 0; --p, to += to_pixel, from += from_pixel) {
    for (std::int64_t line = 0; line < lines; ++line)
      for (std::int64_t i = 0; i < chunks; ++i) std::memcpy(to + line * to_line + i * kChunk, from + line * from_line + i * kChunk, kChunk);
    end_row(to + row);
  }
}

using CopyFn = void (*)(const Block&);

// Kernels of 3, 5 and 7 lines have loops of their own.
template <int kChunks>
CopyFn copy_of_lines(std::int64_t lines) {
  if (lines == 3) return copy_block<3, kChunks>;
  if (lines == 5) return copy_block<5, kChunks>;
  if (lines == 7) return copy_block<7, kChunks>;
  return copy_block<0, kChunks>;
}

CopyFn copy_of(std::int64_t lines, std::int64_t chunks) {
  if (chunks == 1) return copy_of_lines<1>(lines);
  if (chunks == 2) return copy_of_lines<2>(lines);
  return copy_block<0, 0>;
}

// What all pixels share.
class Gatherer {
 public:
  Gatherer(const ConvShape& shape, const ConvCall& call, std::uint8_t zx)
      : s_(shape),
        call_(call),
        zx_(zx),
        run_(shape.kernel_w * shape.in_channels),
        step_(shape.stride_w * call.ld_src),
        chunks_((run_ + kChunk - 1) / kChunk),
        copy_(copy_of(shape.kernel_h, chunks_)) {
    end_ = call.src + (call.batch * call.in_h * call.in_w - 1) * call.ld_src + shape.in_channels;
    // A run lies in one piece where nothing lies between its pixels and all of them are inside.
    const std::int64_t room = call.in_w - shape.kernel_w + shape.pad_left;
    const bool dense = shape.dilation_w == 1 && call.ld_src == shape.in_channels && room >= 0;
    inner_begin_ = (shape.pad_left + shape.stride_w - 1) / shape.stride_w;
    inner_end_ = dense ? room / shape.stride_w + 1 : 0;
  }

  // Pixels [begin, end) of one line of output.
  std::uint8_t* line(std::int64_t b, std::int64_t oh, std::int64_t begin, std::int64_t end, std::uint8_t* row, std::int64_t ld) const {
    const std::int64_t top = oh * s_.stride_h - s_.pad_top;
    const bool inside = top >= 0 && top + (s_.kernel_h - 1) * s_.dilation_h < call_.in_h;
    const std::uint8_t* image = call_.src + b * call_.in_h * call_.in_w * call_.ld_src;
    const std::int64_t line_bytes = s_.dilation_h * call_.in_w * call_.ld_src;
    std::int64_t ow = begin;
    for (; ow < std::min(end, inside ? inner_begin_ : end); ++ow, row += ld) border(image, top, ow, row);
    if (ow < std::min(end, inner_end_)) {
      const std::uint8_t* from = image + top * call_.in_w * call_.ld_src + (ow * s_.stride_w - s_.pad_left) * call_.ld_src;
      // The last chunk of the last line must not leave src.
      const std::int64_t room = end_ - from - (s_.kernel_h - 1) * line_bytes - chunks_ * kChunk;
      const std::int64_t fit = room < 0 ? 0 : room / step_ + 1;
      const Block block{.to = row,
                        .from = from,
                        .to_line = run_,
                        .from_line = line_bytes,
                        .to_pixel = ld,
                        .from_pixel = step_,
                        .lines = s_.kernel_h,
                        .pixels = std::min(std::min(end, inner_end_) - ow, fit),
                        .chunks = chunks_,
                        .row = s_.kernel_h * run_};
      copy_(block);
      ow += block.pixels;
      row += block.pixels * ld;
    }
    for (; ow < end; ++ow, row += ld) border(image, top, ow, row);
    return row;
  }

 private:
  // Any pixel, nothing read or written past a tap.
  void border(const std::uint8_t* image, std::int64_t top, std::int64_t ow, std::uint8_t* row) const {
    const std::int64_t left = ow * s_.stride_w - s_.pad_left;
    const std::int64_t c = s_.in_channels;
    for (std::int64_t kh = 0; kh < s_.kernel_h; ++kh) {
      const std::int64_t ih = top + kh * s_.dilation_h;
      std::uint8_t* to = row + kh * run_;
      if (ih < 0 || ih >= call_.in_h) {
        std::memset(to, zx_, static_cast<std::size_t>(run_));
        continue;
      }
      const std::uint8_t* line = image + ih * call_.in_w * call_.ld_src;
      if (s_.dilation_w == 1 && call_.ld_src == c) {
        // Taps [low, high) are inside.
        const std::int64_t low = std::clamp<std::int64_t>(-left, 0, s_.kernel_w);
        const std::int64_t high = std::clamp<std::int64_t>(call_.in_w - left, low, s_.kernel_w);
        std::memset(to, zx_, static_cast<std::size_t>(low * c));
        if (high > low) std::memcpy(to + low * c, line + (left + low) * c, static_cast<std::size_t>((high - low) * c));
        std::memset(to + high * c, zx_, static_cast<std::size_t>((s_.kernel_w - high) * c));
        continue;
      }
      for (std::int64_t kw = 0; kw < s_.kernel_w; ++kw, to += c) {
        const std::int64_t iw = left + kw * s_.dilation_w;
        if (iw >= 0 && iw < call_.in_w)
          std::memcpy(to, line + iw * call_.ld_src, static_cast<std::size_t>(c));
        else
          std::memset(to, zx_, static_cast<std::size_t>(c));
      }
    }
    const std::int64_t length = s_.kernel_h * run_;
    end_row(row + length);
  }

  const ConvShape& s_;
  const ConvCall& call_;
  std::uint8_t zx_;
  std::int64_t run_;     // bytes of a line of taps
  std::int64_t step_;    // bytes from a pixel's first tap to that of the next one
  std::int64_t chunks_;  // of a line of taps
  CopyFn copy_;
  const std::uint8_t* end_;
  std::int64_t inner_begin_, inner_end_;
};

}  // namespace

void gather_pixels(const ConvShape& shape, const ConvCall& call, std::uint8_t zx, std::int64_t begin, std::int64_t end, std::uint8_t* rows,
                   std::int64_t ld) {
  const Gatherer gatherer(shape, call, zx);
  for (std::int64_t pixel = begin; pixel < end;) {
    const std::int64_t ow = pixel % call.out_w;
    const std::int64_t line = pixel / call.out_w;
    const std::int64_t count = std::min(end - pixel, call.out_w - ow);
    rows = gatherer.line(line / call.out_h, line % call.out_h, ow, ow + count, rows, ld);
    pixel += count;
  }
}

}  // namespace nibble::kernels
