#include "unit/data/test_files.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
// jpeglib.h needs size_t and FILE declared before it.
#include <jpeglib.h>

#include "data/draw.h"

namespace nibble::testing {

namespace fs = std::filesystem;

TempDir::TempDir() {
  std::string name = (fs::temp_directory_path() / "nibble_data_XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string TempDir::write(const std::string& name, std::string_view bytes) const {
  const std::string path = *this / name;
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

Tensor synthetic_image(std::int64_t height, std::int64_t width, std::uint64_t seed) {
  SplitMix64 random(seed);
  Tensor image(DataType::kUInt8, {height, width, 3});
  auto pixels = image.mutable_data<std::uint8_t>();
  std::size_t at = 0;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      const bool edge = ((x / 5) + (y / 7)) % 3 == 0;
      for (std::int64_t c = 0; c < 3; ++c) {
        const std::int64_t smooth = (x * (3 + c) + y * (5 - c)) % 256;
        const auto noise = static_cast<std::int64_t>(random.below(64));
        pixels[at++] = static_cast<std::uint8_t>(edge ? 255 * ((c + y) % 2) : (smooth * 3 + noise) / 4);
      }
    }
  }
  return image;
}

std::string jpeg_bytes(const Tensor& image, JpegOptions options) {
  const auto height = static_cast<unsigned>(image.shape()[0]);
  const auto width = static_cast<unsigned>(image.shape()[1]);
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_width = width;
  info.image_height = height;
  info.input_components = options.gray ? 1 : options.cmyk ? 4 : 3;
  info.in_color_space = options.gray ? JCS_GRAYSCALE : options.cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, options.quality, TRUE);
  if (!options.subsample) info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;
  if (options.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  const auto pixels = image.data<std::uint8_t>();
  const auto components = static_cast<std::size_t>(info.input_components);
  std::vector<unsigned char> row(width * components);
  while (info.next_scanline < height) {
    for (std::size_t x = 0; x < width; ++x) {
      const std::uint8_t* rgb = &pixels[(info.next_scanline * std::size_t{width} + x) * 3];
      for (std::size_t c = 0; c < components; ++c) row[x * components + c] = c < 3 ? rgb[c] : static_cast<unsigned char>(255 - rgb[0] / 2);
    }
    unsigned char* pointer = row.data();
    jpeg_write_scanlines(&info, &pointer, 1);
  }
  jpeg_finish_compress(&info);
  std::string bytes(reinterpret_cast<const char*>(memory), size);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return bytes;
}

namespace {

std::string be32(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8), static_cast<char>(value)};
}
std::string le16(std::size_t value) { return {static_cast<char>(value & 0xFFU), static_cast<char>((value >> 8) & 0xFFU)}; }
std::string le32(std::size_t value) { return le16(value & 0xFFFFU) + le16((value >> 16) & 0xFFFFU); }
std::uint32_t crc_of(std::string_view bytes) {
  return static_cast<std::uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

std::string deflated(std::string_view bytes, int window_bits) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

}  // namespace

std::string zlib_bytes(std::string_view bytes) { return deflated(bytes, 15); }
std::string gzip_bytes(std::string_view bytes) { return deflated(bytes, 15 + 16); }

std::string png_chunk(std::string_view type, std::string_view data) {
  const std::string body = std::string(type) + std::string(data);
  return be32(static_cast<std::uint32_t>(data.size())) + body + be32(crc_of(body));
}

std::string png_bytes(const PngParts& parts) {
  std::string header = be32(parts.width) + be32(parts.height);
  for (const int value : {parts.depth, parts.color, 0, 0, parts.interlace}) header += static_cast<char>(value);
  std::string bytes = "\x89PNG\r\n\x1A\n" + png_chunk("IHDR", header);
  if (!parts.palette.empty()) bytes += png_chunk("PLTE", parts.palette);
  if (!parts.transparency.empty()) bytes += png_chunk("tRNS", parts.transparency);
  return bytes + png_chunk("IDAT", zlib_bytes(parts.rows)) + png_chunk("IEND", "");
}

std::string png_bytes(const Tensor& image) {
  PngParts parts;
  parts.height = static_cast<std::uint32_t>(image.shape()[0]);
  parts.width = static_cast<std::uint32_t>(image.shape()[1]);
  const char* pixels = reinterpret_cast<const char*>(image.bytes());
  for (std::size_t y = 0; y < parts.height; ++y)
    parts.rows += '\0' + std::string(pixels + y * parts.width * 3, std::size_t{parts.width} * 3);
  return png_bytes(parts);
}

std::string zip_bytes(const std::vector<ZipItem>& items) {
  std::string archive;
  std::string directory;
  for (const ZipItem& item : items) {
    const std::string packed = item.deflate ? deflated(item.bytes, -15) : item.bytes;
    const std::string common = le16(20) + le16(0) + le16(item.deflate ? 8 : 0) + le32(0) + le32(crc_of(item.bytes)) + le32(packed.size()) +
                               le32(item.bytes.size()) + le16(item.name.size()) + le16(0);
    directory += "PK\x01\x02" + le16(20) + common + le16(0) + le16(0) + le16(0) + le32(0) + le32(archive.size()) + item.name;
    archive += "PK\x03\x04" + common + item.name + packed;
  }
  const std::size_t offset = archive.size();
  archive += directory;
  archive += "PK\x05\x06" + le16(0) + le16(0) + le16(items.size()) + le16(items.size()) + le32(directory.size()) + le32(offset) + le16(0);
  return archive;
}

std::string idx_bytes(const std::vector<std::uint32_t>& shape, std::string_view elements) {
  std::string bytes("\0\0\x08", 3);
  bytes += static_cast<char>(shape.size());
  for (const std::uint32_t axis : shape) bytes += be32(axis);
  return bytes + std::string(elements);
}

std::string npy_with_header(std::string header, std::string_view data) {
  header += '\n';
  return std::string("\x93NUMPY\x01\x00", 8) + le16(header.size()) + header + std::string(data);
}

InputSpec image_input(std::int64_t channels, std::int64_t side) {
  TensorType type = make_type(DataType::kFloat32, {1, channels, side, side});
  type.dims[0] = {-1, "batch"};
  return {"image", type};
}

PreprocessRecipe exact_recipe(std::int64_t side) {
  PreprocessRecipe recipe;
  recipe.resize = PreprocessRecipe::Resize::kExact;
  recipe.height = recipe.width = side;
  recipe.divide = 255;
  return recipe;
}

std::uint64_t fnv1a(const Tensor& tensor) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (std::size_t i = 0; i < tensor.size_bytes(); ++i) hash = (hash ^ static_cast<std::uint64_t>(tensor.bytes()[i])) * 0x100000001B3U;
  return hash;
}

std::string assets_folder() {
  const char* set = std::getenv("NIBBLE_ASSETS");
  const std::string folder = set != nullptr ? set : NIBBLE_SOURCE_DIR "/../shared/assets";
  return fs::is_directory(folder + "/imagenet") ? folder : "";
}

std::string any_error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "a message must be one line: " << error.what();
    return error.what();
  }
  return "";
}

std::string error_of(ErrorCode code, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "a message must be one line: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

}  // namespace nibble::testing
