// Tiles of 16 x 16 sums: one instruction multiplies 16 rows of 64 bytes by a panel's next 64 k, in 16 cycles whatever part of the tile is
// in use. Four tiles of sums, two by two, halve the loads: a tile of 16 aligned rows takes 8 cycles to load, but 48 where the rows cross
// cache lines, so such rows are copied to aligned memory first if enough panels will read them.
//
// The vector units are idle meanwhile. So the sums of a block are stored, and requantized only after the instructions of the next block
// have been issued: the processor runs both at once.
#include "kernels/qgemm/amx.h"
#include "kernels/requantize/x86_avx512.h"

namespace nibble::kernels {
namespace {

constexpr std::int64_t kTile = 16;          // rows and columns of a tile of sums
constexpr std::int64_t kBlock = 2 * kTile;  // rows of a block
constexpr std::int64_t kMaxNarrow = 4;      // panels of a block of one tile's rows

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// Rows of src as tiles are loaded from them: whole steps at `tile`, each 64 bytes on, then perhaps a last step elsewhere.
struct Rows {
  const std::uint8_t* tile[2];
  std::int64_t distance;
  std::int64_t steps;
  const std::uint8_t* last[2];  // null: there is none
  std::int64_t last_distance;
};

// A block whose sums are in memory.
struct Block {
  std::int64_t row[2];    // of the matrix: the first that counts in each of its tiles
  std::int64_t skip[2];   // rows of the tile before that
  std::int64_t count[2];  // 0: no second tile
  std::int64_t panel;
  std::int64_t panels;
  const std::int32_t* sums;  // [2][16][panels][16]
};

// The compiler does not know that loads of tiles, and of their configuration, read memory.
NIBBLE_INLINE void is_read(const void* memory) { __asm__ volatile("" : : "r"(memory) : "memory"); }

template <int kTiles, int kPanels>
NIBBLE_INLINE void step(const std::uint8_t* a0, const std::uint8_t* a1, std::int64_t distance, const std::byte* b,
                        std::int64_t panel_bytes) {
  _tile_loadd(4, a0, distance);
  _tile_loadd(6, b, 64);
  _tile_dpbusd(0, 4, 6);
  if constexpr (kTiles == 2) {
    _tile_loadd(5, a1, distance);
    _tile_dpbusd(2, 5, 6);
    if constexpr (kPanels == 2) {
      _tile_loadd(7, b + panel_bytes, 64);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(3, 5, 7);
    }
  } else {
    if constexpr (kPanels >= 2) {
      _tile_loadd(7, b + panel_bytes, 64);
      _tile_dpbusd(1, 4, 7);
    }
    if constexpr (kPanels >= 3) {
      _tile_loadd(6, b + 2 * panel_bytes, 64);
      _tile_dpbusd(2, 4, 6);
    }
    if constexpr (kPanels >= 4) {
      _tile_loadd(7, b + 3 * panel_bytes, 64);
      _tile_dpbusd(3, 4, 7);
    }
  }
}

// The sums of a block into tiles 0..3: [2][2], or [panels] of one tile's rows.
template <int kTiles, int kPanels>
NIBBLE_INLINE void multiply(const Rows& rows, const std::byte* b, std::int64_t panel_bytes, const std::int32_t* bias) {
  is_read(rows.tile[0]);
  // A distance of 0: the same row sixteen times.
  _tile_loadd(0, bias, 0);
  if constexpr (kPanels >= 2) _tile_loadd(1, bias + kTile, 0);
  if constexpr (kTiles == 2) {
    _tile_loadd(2, bias, 0);
    if constexpr (kPanels >= 2) _tile_loadd(3, bias + kTile, 0);
  } else {
    if constexpr (kPanels >= 3) _tile_loadd(2, bias + 2 * kTile, 0);
    if constexpr (kPanels >= 4) _tile_loadd(3, bias + 3 * kTile, 0);
  }
  const std::uint8_t* a0 = rows.tile[0];
  const std::uint8_t* a1 = rows.tile[1];
  for (std::int64_t i = 0; i < rows.steps; ++i) {
    step<kTiles, kPanels>(a0, a1, rows.distance, b, panel_bytes);
    a0 += 64;
    a1 += 64;
    b += 64 * kTile;
  }
  if (rows.last[0] != nullptr) step<kTiles, kPanels>(rows.last[0], rows.last[1], rows.last_distance, b, panel_bytes);
}

template <int kTiles, int kPanels>
NIBBLE_INLINE void store(std::int32_t* sums) {
  constexpr std::int64_t kRow = kPanels * kTile;  // elements
  constexpr int kDistance = kPanels * 64;
  _tile_stored(0, sums, kDistance);
  if constexpr (kPanels >= 2) _tile_stored(1, sums + kTile, kDistance);
  if constexpr (kTiles == 2) {
    _tile_stored(2, sums + kTile * kRow, kDistance);
    if constexpr (kPanels >= 2) _tile_stored(3, sums + kTile * kRow + kTile, kDistance);
  } else {
    if constexpr (kPanels >= 3) _tile_stored(2, sums + 2 * kTile, kDistance);
    if constexpr (kPanels >= 4) _tile_stored(3, sums + 3 * kTile, kDistance);
  }
}

NIBBLE_INLINE std::int32_t row_sum(const std::uint8_t* row, std::int64_t k) {
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sum = _mm512_setzero_si512();
  std::int64_t i = 0;
  for (; i + 64 <= k; i += 64) sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row + i), ones);
  if (i < k) sum = _mm512_dpbusd_epi32(sum, _mm512_maskz_loadu_epi8(~0ULL >> (64 - (k - i)), row + i), ones);
  return _mm512_reduce_add_epi32(sum);
}

// What is not the common case: affine weights, integer laws, int32 output.
__attribute__((noinline)) void finish_any(const QgemmAmx& g, const Block& block, int tile) {
  const std::int64_t width = block.panels * kTile;
  for (std::int64_t m = 0; m < block.count[tile]; ++m) {
    const std::int32_t* sums = block.sums + (tile * kTile + block.skip[tile] + m) * width;
    const std::int64_t row = block.row[tile] + m;
    const std::int32_t sum = g.zero_points == nullptr ? 0 : row_sum(g.src + row * g.ld_src, g.k);
    for (std::int64_t p = 0; p < block.panels; ++p) {
      const std::int64_t column = (block.panel + p) * kTile;
      __m512i v = _mm512_loadu_si512(sums + p * kTile);
      if (g.zero_points != nullptr)
        v = _mm512_sub_epi32(v, _mm512_mullo_epi32(_mm512_loadu_si512(g.zero_points + column), _mm512_set1_epi32(sum)));
      const std::int64_t left = g.columns - column;
      const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1);
      if (g.acc != nullptr) {
        _mm512_mask_storeu_epi32(g.acc + row * g.ld_dst + column, mask, v);
        continue;
      }
      __m128i q = requantize16(v, g.requantize, column);
      if (g.residual.src != nullptr)
        q = add_residual16(q, _mm_maskz_loadu_epi8(mask, g.residual.src + row * g.residual.ld_src + column), g.residual);
      _mm_mask_storeu_epi8(g.dst + row * g.ld_dst + column, mask, q);
    }
  }
}

enum class Finish { kPlain, kClamp, kAdd };

// Law float32 to bytes, four vectors at a time: as many rows as make four panels. See x86_avx512vnni.cc.
template <Finish kFinish, int kPanels>
NIBBLE_INLINE void finish_float32(const QgemmAmx& g, const Block& block, int tile) {
  constexpr int kRows = kPanels == 1 ? 4 : kPanels == 2 ? 2 : 1;
  constexpr std::int64_t kWidth = kPanels * kTile;
  const Requantize& r = g.requantize;
  const __m512 hi = _mm512_set1_ps(static_cast<float>(r.qmax - r.zero_point));
  const __m512i zero_point = _mm512_set1_epi16(static_cast<short>(kFinish == Finish::kAdd ? g.residual.offset_dst : r.zero_point));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const std::int64_t column = block.panel * kTile;
  const std::int64_t left = g.columns - column;
  const __mmask64 mask = ~0ULL >> (64 - (left < kWidth ? left : kWidth));
  __m512 multiplier[kMaxNarrow];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) multiplier[p] = _mm512_loadu_ps(r.multiplier + column + p * kTile);
  const std::int32_t* sums = block.sums + (tile * kTile + block.skip[tile]) * kWidth;
  std::uint8_t* dst = g.dst + block.row[tile] * g.ld_dst + column;
  const Addend addend(r, g.residual);
  const std::uint8_t* other = kFinish == Finish::kAdd ? g.residual.src + block.row[tile] * g.residual.ld_src + column : nullptr;
  for (std::int64_t m = 0; m < block.count[tile]; m += kRows) {
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int from = i < kRows * kPanels ? i : kRows * kPanels - 1;
      const __m512i acc = _mm512_loadu_si512(sums + from * kTile);
      if constexpr (kFinish == Finish::kPlain) {
        v[i] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier[from % kPanels]));
      } else if constexpr (kFinish == Finish::kClamp) {
        v[i] = scale_float32(acc, multiplier[from % kPanels], hi);
      } else {
        const __mmask64 part = m + from / kPanels < block.count[tile] ? mask >> (from % kPanels * kTile) : __mmask64{0};
        v[i] = addend.sum(
            acc, multiplier[from % kPanels],
            _mm_maskz_loadu_epi8(static_cast<__mmask16>(part), other + from / kPanels * g.residual.ld_src + from % kPanels * kTile));
      }
    }
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero_point);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero_point);
    __m512i q = _mm512_packus_epi16(low, high);
    if constexpr (kFinish != Finish::kPlain) {
      q = _mm512_max_epu8(q, _mm512_set1_epi8(static_cast<char>(kFinish == Finish::kAdd ? g.residual.qmin : r.qmin)));
      q = _mm512_min_epu8(q, _mm512_set1_epi8(static_cast<char>(kFinish == Finish::kAdd ? g.residual.qmax : r.qmax)));
    }
    q = _mm512_permutexvar_epi32(order, q);
    if constexpr (kRows == 1) {
      _mm512_mask_storeu_epi8(dst, mask, q);
    } else if constexpr (kRows == 2) {
      const auto half = static_cast<__mmask32>(mask);
      _mm256_mask_storeu_epi8(dst, half, _mm512_castsi512_si256(q));
      if (m + 1 < block.count[tile]) _mm256_mask_storeu_epi8(dst + g.ld_dst, half, _mm512_extracti64x4_epi64(q, 1));
    } else {
      const auto quarter = static_cast<__mmask16>(mask);
      _mm_mask_storeu_epi8(dst, quarter, _mm512_castsi512_si128(q));
      if (m + 1 < block.count[tile]) _mm_mask_storeu_epi8(dst + g.ld_dst, quarter, _mm512_extracti32x4_epi32(q, 1));
      if (m + 2 < block.count[tile]) _mm_mask_storeu_epi8(dst + 2 * g.ld_dst, quarter, _mm512_extracti32x4_epi32(q, 2));
      if (m + 3 < block.count[tile]) _mm_mask_storeu_epi8(dst + 3 * g.ld_dst, quarter, _mm512_extracti32x4_epi32(q, 3));
    }
    sums += kRows * kWidth;
    dst += kRows * g.ld_dst;
    if constexpr (kFinish == Finish::kAdd) other += kRows * g.residual.ld_src;
  }
}

template <int kPanels>
NIBBLE_INLINE void finish_panels(const QgemmAmx& g, const Block& block, int tile) {
  if (g.residual.src != nullptr)
    finish_float32<Finish::kAdd, kPanels>(g, block, tile);
  else if (g.requantize.plain)
    finish_float32<Finish::kPlain, kPanels>(g, block, tile);
  else
    finish_float32<Finish::kClamp, kPanels>(g, block, tile);
}

NIBBLE_INLINE void finish(const QgemmAmx& g, const Block& block) {
  const bool fast = g.zero_points == nullptr && g.acc == nullptr && g.requantize.multiplier != nullptr &&
                    (g.residual.src == nullptr || g.residual.float32);
  for (int tile = 0; tile < 2; ++tile) {
    if (block.count[tile] == 0) continue;
    if (!fast)
      finish_any(g, block, tile);
    else if (block.panels == 2)
      finish_panels<2>(g, block, tile);
    else if (block.panels == 4)
      finish_panels<4>(g, block, tile);
    else if (block.panels == 3)
      finish_panels<3>(g, block, tile);
    else
      finish_panels<1>(g, block, tile);
  }
}

// The last bytes of 16 rows, at an end of memory.
NIBBLE_INLINE void copy_last(const std::uint8_t* src, std::int64_t ld_src, std::int64_t rows, std::int64_t bytes, std::uint8_t* out) {
  const __mmask64 mask = ~0ULL >> (64 - bytes);
  for (std::int64_t m = 0; m < rows; ++m) _mm512_store_si512(out + m * 64, _mm512_maskz_loadu_epi8(mask, src + m * ld_src));
}

class Product {
 public:
  explicit Product(const QgemmAmx& g) : g_(g), panels_((g.columns + kTile - 1) / kTile), tile_rows_(g.rows < kTile ? g.rows : kTile) {
    TileConfig config;
    // Tiles 0..3 of sums and 4, 5 of src have the matrix's rows if it has few; 6 and 7 hold weights.
    for (int i = 0; i < 6; ++i) config.rows[i] = static_cast<std::uint8_t>(tile_rows_);
    is_read(&config);
    _tile_loadconfig(&config);
  }
  // Weights in the second-level cache: all of them for each block of rows. Else some panels at a time for as many rows as stay there.
  void run() {
    constexpr std::int64_t kCacheBytes = 1 << 20;
    std::int64_t rows_at_once = kBlock;
    if (panels_ * g_.panel_bytes > kCacheBytes) rows_at_once = (kCacheBytes / 2 / g_.k + kBlock - 1) / kBlock * kBlock;
    for (std::int64_t row = 0; row < g_.rows; row += rows_at_once) {
      const std::int64_t end = row + rows_at_once < g_.rows ? row + rows_at_once : g_.rows;
      const std::int64_t width = end - row > kTile ? 2 : kMaxNarrow;
      const bool copied = end - row <= kBlock && copy_pays();
      if (copied) copy(row, end);
      for (std::int64_t panel = 0; panel < panels_; panel += width) {
        const std::int64_t panels = panel + width < panels_ ? width : panels_ - panel;
        for (std::int64_t first = row; first < end; first += kBlock) block(first, end, panel, panels, copied);
      }
    }
    if (waiting_.sums != nullptr) finish(g_, waiting_);
    _tile_release();  // the operating system need not save what is released
  }

 private:
  static constexpr std::int64_t kCopiedK = 1024;

  bool copy_pays() const {
    const bool aligned = g_.ld_src % 64 == 0 && reinterpret_cast<std::uintptr_t>(g_.src) % 64 == 0;
    return !aligned && panels_ >= 4 && g_.k <= kCopiedK;
  }

  // Blocks of fewer rows than theirs end with the matrix: the last tile overlaps the one before, and the rows in both count once.
  std::int64_t tile_row(std::int64_t first) const { return first + tile_rows_ <= g_.rows ? first : g_.rows - tile_rows_; }

  void copy(std::int64_t first, std::int64_t end) {
    const std::int64_t distance = (g_.k + 63) / 64 * 64;
    for (int i = 0; i < 2 && first + i * kTile < end; ++i)
      copy_rows_avx512(g_.src + tile_row(first + i * kTile) * g_.ld_src, g_.ld_src, copied_ + i * kTile * distance, distance, tile_rows_,
                       g_.k);
  }

  void block(std::int64_t first, std::int64_t end, std::int64_t panel, std::int64_t panels, bool copied) {
    Block next{};
    Rows rows{};
    rows.distance = g_.ld_src;
    rows.steps = g_.k / 64;
    const std::int64_t left = g_.k % 64;
    const std::int64_t padded = (g_.k + 63) / 64 * 64;
    rows.tile[1] = g_.src;
    for (int i = 0; i < 2 && first + i * kTile < end; ++i) {
      const std::int64_t at = first + i * kTile;
      const std::int64_t row = tile_row(at);
      next.row[i] = at;
      next.skip[i] = at - row;
      next.count[i] = (at + kTile < end ? at + kTile : end) - at;
      rows.tile[i] = g_.src + row * g_.ld_src;
      if (left == 0) continue;
      rows.last[i] = rows.tile[i] + rows.steps * 64;
      rows.last_distance = g_.ld_src;
    }
    if (copied) {
      for (int i = 0; i < 2; ++i) rows.tile[i] = copied_ + i * kTile * padded;
      rows.distance = padded;
      rows.steps = padded / 64;
      rows.last[0] = nullptr;
    } else if (left != 0) {
      const int tiles = next.count[1] == 0 ? 1 : 2;
      if ((tile_row(first + (tiles - 1) * kTile) + tile_rows_ - 1) * g_.ld_src + padded > g_.readable) {
        for (int i = 0; i < tiles; ++i) {
          copy_last(rows.last[i], g_.ld_src, tile_rows_, left, last_ + i * kTile * 64);
          rows.last[i] = last_ + i * kTile * 64;
        }
        rows.last_distance = 64;
      }
    }
    next.panel = panel;
    next.panels = panels;
    std::int32_t* const sums = sums_[which_];
    next.sums = sums;
    which_ = 1 - which_;
    if (next.count[1] != 0) {
      if (panels == 2)
        multiply_and_finish<2, 2>(rows, panel, sums);
      else
        multiply_and_finish<2, 1>(rows, panel, sums);
    } else if (panels == 4) {
      multiply_and_finish<1, 4>(rows, panel, sums);
    } else if (panels == 3) {
      multiply_and_finish<1, 3>(rows, panel, sums);
    } else if (panels == 2) {
      multiply_and_finish<1, 2>(rows, panel, sums);
    } else {
      multiply_and_finish<1, 1>(rows, panel, sums);
    }
    waiting_ = next;
  }

  template <int kTiles, int kPanels>
  void multiply_and_finish(const Rows& rows, std::int64_t panel, std::int32_t* sums) {
    multiply<kTiles, kPanels>(rows, g_.wei + panel * g_.panel_bytes, g_.panel_bytes, g_.bias + panel * kTile);
    if (waiting_.sums != nullptr) finish(g_, waiting_);
    store<kTiles, kPanels>(sums);
  }

  const QgemmAmx& g_;
  std::int64_t panels_;
  std::int64_t tile_rows_;
  Block waiting_{};
  int which_ = 0;
  alignas(64) std::int32_t sums_[2][(kBlock + 4) * 2 * kTile];  // four rows more: requantized with others, but never stored
  alignas(64) std::uint8_t last_[kBlock * 64];
  alignas(64) std::uint8_t copied_[kBlock * kCopiedK];
};

}  // namespace

void qgemm_u8s8s32_32x32c64_amx(const QgemmAmx& g) {
  Product product(g);
  product.run();
}

void copy_rows_avx512(const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst, std::int64_t ld_dst, std::int64_t rows,
                      std::int64_t bytes) {
  const std::int64_t whole = bytes / 64 * 64;
  const __mmask64 mask = bytes == whole ? 0 : ~0ULL >> (64 - (bytes - whole));
  for (std::int64_t m = 0; m < rows; ++m) {
    for (std::int64_t i = 0; i < whole; i += 64) _mm512_storeu_si512(dst + i, _mm512_loadu_si512(src + i));
    if (mask != 0) _mm512_mask_storeu_epi8(dst + whole, mask, _mm512_maskz_loadu_epi8(mask, src + whole));
    src += ld_src;
    dst += ld_dst;
  }
}

}  // namespace nibble::kernels
