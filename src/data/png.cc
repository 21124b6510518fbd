// PNG through libpng. Every kind becomes 8-bit RGB: grey is replicated, a palette looked up, alpha and transparency dropped, 16 bits lose
// the lower byte, gamma is not applied.
//
// Like libjpeg, libpng leaves by longjmp: the functions that hold a setjmp have plain data only.
#include <png.h>

#include <csetjmp>
#include <cstring>
#include <vector>

#include "base/fail.h"
#include "data/image.h"

namespace nibble {
namespace {

struct Source {
  const char* data = nullptr;
  std::size_t size = 0;
  std::size_t at = 0;
  char message[128] = {};
};

void on_read(png_structp png, png_bytep out, std::size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->size - source->at) png_error(png, "the file is truncated");
  std::memcpy(out, source->data + source->at, count);
  source->at += count;
}

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* source = static_cast<Source*>(png_get_error_ptr(png));
  std::strncpy(source->message, message, sizeof source->message - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  Source source;
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

bool read_header(Reader& reader) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_set_user_limits(reader.png, 0x7FFFFFFF, 0x7FFFFFFF);  // check_image_size() judges the size
  png_set_read_fn(reader.png, &reader.source, on_read);
  png_read_info(reader.png, reader.info);
  return true;
}

bool start_pixels(Reader& reader) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  const int color = png_get_color_type(reader.png, reader.info);
  if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(reader.png);
  if ((color & PNG_COLOR_MASK_COLOR) == 0) {
    png_set_expand_gray_1_2_4_to_8(reader.png);
    png_set_gray_to_rgb(reader.png);
  }
  png_set_strip_16(reader.png);
  png_set_strip_alpha(reader.png);
  png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  return true;
}

bool read_pixels(Reader& reader, png_bytepp rows) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_read_image(reader.png, rows);
  png_read_end(reader.png, nullptr);
  return true;
}

[[noreturn]] void report(const Reader& reader, const std::string& origin) {
  fail(ErrorCode::kInvalidData, "{}: broken image: {}; repair or remove the file", origin,
       reader.source.message[0] != '\0' ? reader.source.message : "the PNG data is damaged");
}

}  // namespace

Tensor decode_png(std::string_view bytes, const std::string& origin) {
  Reader reader;
  reader.source.data = bytes.data();
  reader.source.size = bytes.size();
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader.source, on_error, on_warning);
  if (reader.png != nullptr) reader.info = png_create_info_struct(reader.png);
  if (reader.info == nullptr) fail(ErrorCode::kIo, "{}: libpng cannot start: out of memory, or a library of another version", origin);
  if (!read_header(reader)) report(reader, origin);
  const std::int64_t height = png_get_image_height(reader.png, reader.info);
  const std::int64_t width = png_get_image_width(reader.png, reader.info);
  check_image_size(height, width, origin);
  if (!start_pixels(reader)) report(reader, origin);
  const auto row_bytes = static_cast<std::size_t>(width) * 3;
  if (png_get_rowbytes(reader.png, reader.info) != row_bytes)
    fail(ErrorCode::kInvalidData, "{}: broken image: a PNG of an unknown kind", origin);
  Tensor image(DataType::kUInt8, {height, width, 3});
  std::uint8_t* pixels = image.mutable_data<std::uint8_t>().data();
  std::vector<png_bytep> rows(static_cast<std::size_t>(height));
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = pixels + y * row_bytes;
  if (!read_pixels(reader, rows.data())) report(reader, origin);
  return image;
}

}  // namespace nibble
