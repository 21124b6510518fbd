// Tiles of 16 x 16 sums: one instruction multiplies 16 rows of 64 bytes by a panel's next 64 k, in 16 cycles whatever part of the tile is
// in use. Four tiles of sums, two by two, halve the loads: a tile of 16 aligned rows takes 8 cycles to load, but 48 where the rows cross
// cache lines, so such rows are copied to aligned memory first if enough panels will read them.
//
// The vector units are idle meanwhile. So the sums of a block are stored, and portions of their requantization lie between the steps of the
// next block: the processor runs both at once, but only what is near each other (tiles that wait fill its window). Stores of tiles and the
// requantization share ports, so that products of little depth are bound by their endings.
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

// A block whose sums are in memory. Rows that do not fill its tiles overlap the rows before: they come first, and count once.
struct Block {
  std::int64_t row;    // of the matrix: the first that counts
  std::int64_t skip;   // rows of sums before that
  std::int64_t count;  // rows
  std::int64_t panel;
  std::int64_t panels;
  const std::int32_t* sums;  // [rows][panels][16]; null: there is none
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

template <int kTiles, int kPanels>
NIBBLE_INLINE void store(std::int32_t* sums, std::int64_t second_row) {
  constexpr int kDistance = kPanels * 64;
  _tile_stored(0, sums, kDistance);
  if constexpr (kPanels >= 2) _tile_stored(1, sums + kTile, kDistance);
  if constexpr (kTiles == 2) {
    std::int32_t* const second = sums + second_row * kPanels * kTile;
    _tile_stored(2, second, kDistance);
    if constexpr (kPanels >= 2) _tile_stored(3, second + kTile, kDistance);
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

// What is not the common case: affine weights, integer laws, int32 output. `src`: the block's first row that counts.
__attribute__((noinline)) void finish_any(const QgemmAmx& g, const Block& block, const std::uint8_t* src, std::int64_t distance) {
  const std::int64_t width = block.panels * kTile;
  for (std::int64_t m = 0; m < block.count; ++m) {
    const std::int32_t* sums = block.sums + (block.skip + m) * width;
    const std::int64_t row = block.row + m;
    const std::int32_t sum = g.zero_points == nullptr ? 0 : row_sum(src + m * distance, g.k);
    for (std::int64_t p = 0; p < block.panels; ++p) {
      const std::int64_t column = (block.panel + p) * kTile;
      __m512i v = _mm512_add_epi32(_mm512_loadu_si512(sums + p * kTile), _mm512_loadu_si512(g.bias + column));
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
class Finisher {
 public:
  NIBBLE_INLINE Finisher(const QgemmAmx& g, const Block& block) : addend_(g.requantize, g.residual), left_(block.count) {
    const Requantize& r = g.requantize;
    const std::int64_t column = block.panel * kTile;
    const std::int64_t columns = g.columns - column;
    whole_ = columns >= kWidth;
    mask_ = ~0ULL >> (64 - (whole_ ? kWidth : columns));
    hi_ = _mm512_set1_ps(static_cast<float>(r.qmax - r.zero_point));
    zero_point_ = _mm512_set1_epi16(static_cast<short>(kFinish == Finish::kAdd ? g.residual.offset_dst : r.zero_point));
    qmin_ = _mm512_set1_epi8(static_cast<char>(kFinish == Finish::kAdd ? g.residual.qmin : r.qmin));
    qmax_ = _mm512_set1_epi8(static_cast<char>(kFinish == Finish::kAdd ? g.residual.qmax : r.qmax));
    order_ = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      bias_[p] = _mm512_loadu_si512(g.bias + column + p * kTile);
      multiplier_[p] = _mm512_loadu_ps(r.multiplier + column + p * kTile);
    }
    sums_ = block.sums + block.skip * kWidth;
    dst_ = g.dst + block.row * g.ld_dst + column;
    ld_dst_ = g.ld_dst;
    if constexpr (kFinish == Finish::kAdd) {
      other_ = g.residual.src + block.row * g.residual.ld_src + column;
      ld_other_ = g.residual.ld_src;
    }
  }

  NIBBLE_INLINE bool is_done() const { return left_ <= 0; }

  NIBBLE_INLINE void next() {
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int from = i < kRows * kPanels ? i : kRows * kPanels - 1;
      const int p = from % kPanels;
      const __m512i acc = _mm512_add_epi32(bias_[p], _mm512_loadu_si512(sums_ + from * kTile));
      if constexpr (kFinish == Finish::kPlain) {
        v[i] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier_[p]));
      } else if constexpr (kFinish == Finish::kClamp) {
        v[i] = scale_float32(acc, multiplier_[p], hi_);
      } else {
        const std::uint8_t* other = other_ + from / kPanels * ld_other_ + p * kTile;
        const __mmask64 part = from / kPanels < left_ ? mask_ >> (p * kTile) : __mmask64{0};
        v[i] = addend_.sum(acc, multiplier_[p],
                           whole_ && left_ >= kRows ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(other))
                                                    : _mm_maskz_loadu_epi8(static_cast<__mmask16>(part), other));
      }
    }
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero_point_);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero_point_);
    __m512i q = _mm512_packus_epi16(low, high);
    if constexpr (kFinish != Finish::kPlain) q = _mm512_min_epu8(_mm512_max_epu8(q, qmin_), qmax_);
    put(_mm512_permutexvar_epi32(order_, q));
    sums_ += kRows * kWidth;
    dst_ += kRows * ld_dst_;
    if constexpr (kFinish == Finish::kAdd) other_ += kRows * ld_other_;
    left_ -= kRows;
  }

 private:
  static constexpr int kRows = kPanels == 1 ? 4 : kPanels == 2 ? 2 : 1;
  static constexpr std::int64_t kWidth = kPanels * kTile;

  NIBBLE_INLINE void put(__m512i q) const {
    if constexpr (kRows == 1) {
      if (whole_ && kPanels == 4)
        _mm512_storeu_si512(dst_, q);
      else
        _mm512_mask_storeu_epi8(dst_, mask_, q);
    } else if constexpr (kRows == 2) {
      if (whole_ && left_ >= 2) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst_), _mm512_castsi512_si256(q));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst_ + ld_dst_), _mm512_extracti64x4_epi64(q, 1));
      } else {
        const auto half = static_cast<__mmask32>(mask_);
        _mm256_mask_storeu_epi8(dst_, half, _mm512_castsi512_si256(q));
        if (left_ >= 2) _mm256_mask_storeu_epi8(dst_ + ld_dst_, half, _mm512_extracti64x4_epi64(q, 1));
      }
    } else {
      const auto quarter = static_cast<__mmask16>(mask_);
      _mm_mask_storeu_epi8(dst_, quarter, _mm512_castsi512_si128(q));
      if (left_ >= 2) _mm_mask_storeu_epi8(dst_ + ld_dst_, quarter, _mm512_extracti32x4_epi32(q, 1));
      if (left_ >= 3) _mm_mask_storeu_epi8(dst_ + 2 * ld_dst_, quarter, _mm512_extracti32x4_epi32(q, 2));
      if (left_ >= 4) _mm_mask_storeu_epi8(dst_ + 3 * ld_dst_, quarter, _mm512_extracti32x4_epi32(q, 3));
    }
  }

  __m512i bias_[kMaxNarrow];  // kPanels of them
  __m512 multiplier_[kMaxNarrow];
  __m512 hi_;
  __m512i zero_point_, qmin_, qmax_, order_;
  Addend addend_;
  const std::int32_t* sums_;
  std::uint8_t* dst_;
  const std::uint8_t* other_ = nullptr;
  std::int64_t ld_dst_;
  std::int64_t ld_other_ = 0;
  std::int64_t left_;
  __mmask64 mask_;
  bool whole_;
};

// Nothing to finish.
class Nothing {
 public:
  NIBBLE_INLINE bool is_done() const { return true; }
  NIBBLE_INLINE void next() {}
};

template <typename Work>
NIBBLE_INLINE void finish_all(Work work) {
  while (!work.is_done()) work.next();
}

template <int kPanels>
NIBBLE_INLINE void finish_panels(const QgemmAmx& g, const Block& block) {
  if (g.residual.src != nullptr)
    finish_all(Finisher<Finish::kAdd, kPanels>(g, block));
  else if (g.requantize.plain)
    finish_all(Finisher<Finish::kPlain, kPanels>(g, block));
  else
    finish_all(Finisher<Finish::kClamp, kPanels>(g, block));
}

// The sums of a block into tiles 0..3: [2][2], or [panels] of one tile's rows. Between the steps some of `work` each: only instructions
// that are near each other run at once.
template <int kTiles, int kPanels, typename Work>
NIBBLE_INLINE void multiply(const Rows& rows, const std::byte* b, std::int64_t panel_bytes, Work work, std::int64_t portion) {
  is_read(rows.tile[0]);
  _tile_zero(0);
  if constexpr (kTiles == 2 || kPanels >= 3) _tile_zero(2);
  if constexpr (kPanels >= 2) _tile_zero(1);
  if constexpr (kTiles * kPanels == 4) _tile_zero(3);
  const std::uint8_t* a0 = rows.tile[0];
  const std::uint8_t* a1 = rows.tile[1];
  for (std::int64_t i = 0; i < rows.steps; ++i) {
    step<kTiles, kPanels>(a0, a1, rows.distance, b, panel_bytes);
    a0 += 64;
    a1 += 64;
    b += 64 * kTile;
    for (std::int64_t j = 0; j < portion && !work.is_done(); ++j) work.next();
  }
  if (rows.last[0] != nullptr) step<kTiles, kPanels>(rows.last[0], rows.last[1], rows.last_distance, b, panel_bytes);
  while (!work.is_done()) work.next();
}

// The last bytes of 16 rows, at an end of memory.
NIBBLE_INLINE void copy_last(const std::uint8_t* src, std::int64_t ld_src, std::int64_t rows, std::int64_t bytes, std::uint8_t* out) {
  const __mmask64 mask = ~0ULL >> (64 - bytes);
  for (std::int64_t m = 0; m < rows; ++m) _mm512_store_si512(out + m * 64, _mm512_maskz_loadu_epi8(mask, src + m * ld_src));
}

class Product {
 public:
  explicit Product(const QgemmAmx& g)
      : g_(g),
        panels_((g.columns + kTile - 1) / kTile),
        tile_rows_(g.rows < kTile ? g.rows : kTile),
        padded_((g.k + 63) / 64 * 64),
        step_(g.k < kAmxStep ? (g.k + 3) / 4 * 4 : kAmxStep),
        vectors_(g.zero_points == nullptr && g.acc == nullptr && g.requantize.multiplier != nullptr &&
                 (g.residual.src == nullptr || g.residual.bounded)) {
    TileConfig config;
    // Tiles 0..3 of sums and 4, 5 of src have the matrix's rows if it has few; 6 and 7 hold weights.
    for (int i = 0; i < 6; ++i) config.rows[i] = static_cast<std::uint8_t>(tile_rows_);
    if (g.k < kAmxStep) {
      // A single step, and so narrow that fewer rows of src cross cache lines.
      config.row_bytes[4] = config.row_bytes[5] = static_cast<std::uint16_t>(step_);
      config.rows[6] = config.rows[7] = static_cast<std::uint8_t>(step_ / 4);
    }
    is_read(&config);
    _tile_loadconfig(&config);
  }

  // Weights in the second-level cache: all of them for each block of rows. Else some panels at a time for as many rows as stay there.
  void run() {
    constexpr std::int64_t kCacheBytes = 1 << 20;
    std::int64_t rows_at_once = kBlock;
    if (g_.gather != nullptr)
      rows_at_once = g_.gathered_rows / kBlock * kBlock;
    else if (panels_ * g_.panel_bytes > kCacheBytes)
      rows_at_once = (kCacheBytes / 2 / g_.k + kBlock - 1) / kBlock * kBlock;
    for (std::int64_t row = 0; row < g_.rows; row += rows_at_once) {
      const std::int64_t end = row + rows_at_once < g_.rows ? row + rows_at_once : g_.rows;
      const std::int64_t width = end - row > kTile ? 2 : kMaxNarrow;
      fetch(row, end);
      for (std::int64_t panel = 0; panel < panels_; panel += width) {
        const std::int64_t panels = panel + width < panels_ ? width : panels_ - panel;
        for (std::int64_t first = row; first < end; first += kBlock) {
          const std::int64_t count = end - first < kBlock ? end - first : kBlock;
          if (count > kTile) {
            if (panels == 2)
              block<2, 2>(first, count, panel);
            else
              block<2, 1>(first, count, panel);
          } else if (panels == 4) {
            block<1, 4>(first, count, panel);
          } else if (panels == 3) {
            block<1, 3>(first, count, panel);
          } else if (panels == 2) {
            block<1, 2>(first, count, panel);
          } else {
            block<1, 1>(first, count, panel);
          }
        }
      }
    }
    finish_waiting();
    _tile_release();  // the operating system need not save what is released
  }

 private:
  static constexpr std::int64_t kCopiedK = 1024;

  bool copy_pays() const {
    const bool aligned = g_.ld_src % 64 == 0 && reinterpret_cast<std::uintptr_t>(g_.src) % 64 == 0;
    return !aligned && panels_ >= 4 && g_.k > 32 && g_.k <= kCopiedK;
  }

  // The tiles of `count` rows from `first` on.
  struct Tiles {
    std::int64_t row;     // of the first
    std::int64_t second;  // rows from there to the second; 0: there is none
  };
  Tiles tiles_of(std::int64_t first, std::int64_t count) const {
    if (count <= kTile) return {first + tile_rows_ <= g_.rows ? first : g_.rows - tile_rows_, 0};
    const std::int64_t row = first + kBlock <= g_.rows ? first : g_.rows > kBlock ? g_.rows - kBlock : 0;
    return {row, row + kBlock <= g_.rows ? kTile : g_.rows - kTile - row};
  }

  // Makes tiles of rows [row, end) loadable.
  void fetch(std::int64_t row, std::int64_t end) {
    const std::int64_t last = row + (end - row - 1) / kBlock * kBlock;
    const Tiles tiles = tiles_of(last, end - last);
    const std::int64_t first = tiles.row < row ? tiles.row : row;
    const std::int64_t count = tiles.row + tiles.second + tile_rows_ - first;
    rows_ = {.first = first, .src = g_.src + first * g_.ld_src, .distance = g_.ld_src, .padded = false};
    if (g_.gather != nullptr) {
      g_.gather(g_.context, first, count, g_.gathered);
      rows_.src = g_.gathered;
      rows_.padded = true;
    } else if (end - row <= kBlock && copy_pays()) {
      copy_rows_avx512(rows_.src, g_.ld_src, copied_, padded_, count, g_.k);
      rows_.src = copied_;
      rows_.distance = padded_;
      rows_.padded = true;
    }
  }

  template <int kTiles, int kPanels>
  void block(std::int64_t first, std::int64_t count, std::int64_t panel) {
    const Tiles tiles = tiles_of(first, count);
    const std::int64_t left = g_.k % 64;
    Rows rows;
    rows.tile[0] = rows_.src + (tiles.row - rows_.first) * rows_.distance;
    rows.distance = rows_.distance;
    rows.tile[1] = rows.tile[0] + tiles.second * rows.distance;
    rows.steps = (rows_.padded ? padded_ : g_.k) / 64;
    rows.last[0] = rows.last[1] = nullptr;
    rows.last_distance = rows.distance;
    if (left != 0 && !rows_.padded) {
      for (int i = 0; i < kTiles; ++i) rows.last[i] = rows.tile[i] + rows.steps * 64;
      const std::int64_t last_row = tiles.row + tiles.second + tile_rows_ - 1;
      if (last_row * g_.ld_src + rows.steps * 64 + step_ > g_.readable) {
        for (int i = 0; i < kTiles; ++i) {
          copy_last(rows.last[i], g_.ld_src, tile_rows_, left, last_ + i * kTile * 64);
          rows.last[i] = last_ + i * kTile * 64;
        }
        rows.last_distance = 64;
      }
    }
    constexpr bool kBeside = kTiles == 2 ? kPanels == 2 : kPanels == 4;
    if (kBeside && vectors_ && waiting_.sums != nullptr && waiting_.panels == kPanels) {
      if (g_.residual.src != nullptr)
        multiply_beside<kTiles, kPanels, Finish::kAdd>(rows, panel);
      else if (g_.requantize.plain)
        multiply_beside<kTiles, kPanels, Finish::kPlain>(rows, panel);
      else
        multiply_beside<kTiles, kPanels, Finish::kClamp>(rows, panel);
    } else {
      finish_waiting();
      multiply<kTiles, kPanels>(rows, g_.wei + panel * g_.panel_bytes, g_.panel_bytes, Nothing{}, 0);
    }
    std::int32_t* const sums = sums_[which_];
    which_ = 1 - which_;
    store<kTiles, kPanels>(sums, tiles.second);
    waiting_ = {.row = first, .skip = first - tiles.row, .count = count, .panel = panel, .panels = kPanels, .sums = sums};
    if (!vectors_) finish_waiting();  // it may read the rows themselves
  }

  // The product of one block, and the requantization of the one before.
  template <int kTiles, int kPanels, Finish kFinish>
  void multiply_beside(const Rows& rows, std::int64_t panel) {
    if constexpr (kTiles == 2 ? kPanels == 2 : kPanels == 4) {
      constexpr std::int64_t kPortions = 16;  // of a whole block, whatever its shape
      const std::int64_t steps = rows.steps > 0 ? rows.steps : 1;
      multiply<kTiles, kPanels>(rows, g_.wei + panel * g_.panel_bytes, g_.panel_bytes, Finisher<kFinish, kPanels>(g_, waiting_),
                                (kPortions + steps - 1) / steps);
    }
  }

  void finish_waiting() {
    if (waiting_.sums == nullptr) return;
    if (!vectors_)
      finish_any(g_, waiting_, rows_.src + (waiting_.row - rows_.first) * rows_.distance, rows_.distance);
    else if (waiting_.panels == 2)
      finish_panels<2>(g_, waiting_);
    else if (waiting_.panels == 4)
      finish_panels<4>(g_, waiting_);
    else if (waiting_.panels == 3)
      finish_panels<3>(g_, waiting_);
    else
      finish_panels<1>(g_, waiting_);
    waiting_.sums = nullptr;
  }

  const QgemmAmx& g_;
  const std::int64_t panels_;
  const std::int64_t tile_rows_;
  const std::int64_t padded_;
  const std::int64_t step_;  // bytes of a row that a tile takes
  const bool vectors_;       // requantization has a fast way
  struct {
    std::int64_t first;  // of the matrix
    const std::uint8_t* src;
    std::int64_t distance;
    bool padded;  // whole steps may be read
  } rows_{};
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
