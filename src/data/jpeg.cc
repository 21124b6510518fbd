// JPEG through libjpeg-turbo, decoded as Pillow does by default: accurate integer DCT, smooth chroma upsampling.
//
// libjpeg leaves by longjmp on an error. Between setjmp and the longjmp no object with a destructor may be created, so the functions below
// hold plain data only, and the message is formed after the jump.
#include <csetjmp>
#include <cstddef>
#include <cstdio>
// jpeglib.h needs size_t and FILE declared before it.
#include <jerror.h>
#include <jpeglib.h>

#include "base/fail.h"
#include "data/image.h"

namespace nibble {
namespace {

// A progressive file of some kB can hold thousands of scans, each of which costs a pass over the whole image.
constexpr int kMostScans = 500;

enum class Failure { kNone, kBroken, kSize, kScans };

struct Context {
  jpeg_error_mgr errors;  // first: libjpeg gives back a pointer to it
  jpeg_progress_mgr progress;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
  Failure failure;
};

Context* context_of(j_common_ptr info) { return static_cast<Context*>(info->client_data); }

[[noreturn]] void leave(j_common_ptr info, Failure failure) {
  Context* context = context_of(info);
  context->failure = failure;
  std::longjmp(context->jump, 1);
}

[[noreturn]] void on_error(j_common_ptr info) {
  info->err->format_message(info, context_of(info)->message);
  leave(info, Failure::kBroken);
}

// Warnings come with level -1. Those that mean lost pixels are errors here: a half grey image must not calibrate a network.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:  // junk between segments: no pixel is lost
    case JWRN_TOO_MUCH_DATA:
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR: return;
    default: on_error(info);
  }
}

void no_output(j_common_ptr) {}

void on_progress(j_common_ptr info) {
  if (info->is_decompressor != 0 && reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMostScans) leave(info, Failure::kScans);
}

// Starts and reads the header. False after an error; `context` says which.
bool open_jpeg(jpeg_decompress_struct& info, Context& context, std::string_view bytes) {
  info.err = jpeg_std_error(&context.errors);
  context.errors.error_exit = on_error;
  context.errors.emit_message = on_message;
  context.errors.output_message = no_output;
  context.progress.progress_monitor = on_progress;
  info.client_data = &context;
  if (setjmp(context.jump) != 0) return false;
  jpeg_create_decompress(&info);
  info.client_data = &context;  // creation clears most of the struct
  info.progress = &context.progress;
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&info, TRUE);
  return true;
}

bool start_jpeg(jpeg_decompress_struct& info, Context& context) {
  if (setjmp(context.jump) != 0) return false;
  // Grey stays grey and CMYK stays CMYK: their way to RGB is Pillow's, below.
  if (info.jpeg_color_space == JCS_GRAYSCALE)
    info.out_color_space = JCS_GRAYSCALE;
  else if (info.num_components == 4)
    info.out_color_space = JCS_CMYK;
  else
    info.out_color_space = JCS_RGB;
  info.dct_method = JDCT_ISLOW;
  info.do_fancy_upsampling = TRUE;
  jpeg_start_decompress(&info);
  return true;
}

// `row` has room for one row of the file's components; `pixels` for the whole image.
bool read_pixels(jpeg_decompress_struct& info, Context& context, unsigned char* row, unsigned char* pixels) {
  if (setjmp(context.jump) != 0) return false;
  const std::size_t width = info.output_width;
  while (info.output_scanline < info.output_height) {
    unsigned char* out = pixels + std::size_t{info.output_scanline} * width * 3;
    unsigned char* target = info.output_components == 3 ? out : row;
    if (jpeg_read_scanlines(&info, &target, 1) != 1) return false;
    if (info.output_components == 1) {
      for (std::size_t x = 0; x < width; ++x) out[3 * x] = out[3 * x + 1] = out[3 * x + 2] = row[x];
    } else if (info.output_components == 4) {
      // Files with four components hold Adobe's inverted CMYK: 255 - c is the ink. With k' = 255 - ink of black, each colour is
      // k' - round(ink * k' / 255).
      for (std::size_t x = 0; x < width; ++x) {
        const int light = row[4 * x + 3];
        for (std::size_t c = 0; c < 3; ++c) {
          const int product = (255 - row[4 * x + c]) * light + 128;
          const int ink = (product + (product >> 8)) >> 8;
          out[3 * x + c] = static_cast<unsigned char>(light - ink);
        }
      }
    }
  }
  jpeg_finish_decompress(&info);
  return true;
}

struct Decompressor {
  jpeg_decompress_struct info{};
  Context context{};
  ~Decompressor() { jpeg_destroy_decompress(&info); }
};

[[noreturn]] void report(const Context& context, const std::string& origin) {
  if (context.failure == Failure::kScans)
    fail(ErrorCode::kInvalidData, "{}: broken image: the JPEG has more than {} scans", origin, kMostScans);
  fail(ErrorCode::kInvalidData, "{}: broken image: {}; repair or remove the file", origin,
       context.message[0] != '\0' ? context.message : "the JPEG data is damaged");
}

}  // namespace

Tensor decode_jpeg(std::string_view bytes, const std::string& origin) {
  Decompressor jpeg;
  if (!open_jpeg(jpeg.info, jpeg.context, bytes)) report(jpeg.context, origin);
  const std::int64_t height = jpeg.info.image_height;
  const std::int64_t width = jpeg.info.image_width;
  check_image_size(height, width, origin);
  if (jpeg.info.num_components != 1 && jpeg.info.num_components != 3 && jpeg.info.num_components != 4)
    fail(ErrorCode::kInvalidData, "{}: broken image: a JPEG with {} components (1, 3 or 4 are read)", origin, jpeg.info.num_components);
  if (!start_jpeg(jpeg.info, jpeg.context)) report(jpeg.context, origin);
  Tensor image(DataType::kUInt8, {height, width, 3});
  std::string row(static_cast<std::size_t>(width) * 4, '\0');
  if (!read_pixels(jpeg.info, jpeg.context, reinterpret_cast<unsigned char*>(row.data()), image.mutable_data<std::uint8_t>().data()))
    report(jpeg.context, origin);
  return image;
}

}  // namespace nibble
