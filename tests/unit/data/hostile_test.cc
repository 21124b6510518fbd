// Broken files of every format: one clear line that names the file, and neither a crash nor a hang nor a mountain of memory.
#include <gtest/gtest.h>

#include <filesystem>

#include "data/draw.h"
#include "data/image.h"
#include "data/npy.h"
#include "nibble/dataset.h"
#include "unit/data/test_files.h"

namespace nibble {
namespace {

using testing::gzip_bytes;
using testing::idx_bytes;
using testing::npy_with_header;
using testing::png_bytes;
using testing::TempDir;
using testing::zip_bytes;

struct Case {
  const char* what;
  std::string file;  // its name decides how it is opened
  std::string bytes;
  const char* part;  // of the message
};

std::string changed(std::string bytes, std::size_t at, std::string_view with) { return bytes.replace(at, with.size(), with); }
std::string cut(const std::string& bytes, std::size_t from_end) { return bytes.substr(0, bytes.size() - from_end); }

std::string npy(const std::string& descr, const std::string& shape, std::string_view data = "") {
  return npy_with_header("{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }", data);
}

std::vector<Case> array_cases() {
  const std::string good = npy("<f4", "(2,)", "12345678");
  return {
      {"npy: empty", "a.npy", "", "not an .npy file"},
      {"npy: half the magic", "a.npy", "\x93NU", "not an .npy file"},
      {"npy: magic only", "a.npy", good.substr(0, 6), "truncated"},
      {"npy: format 0", "a.npy", changed(good, 6, std::string_view("\0", 1)), "format 0.0"},
      {"npy: format 9", "a.npy", changed(good, 6, "\x09"), "format 9.0"},
      {"npy: header longer than the file", "a.npy", changed(good, 8, "\xFF\xFF"), "its header has 65535 bytes"},
      {"npy: format 2, header of 4 GB", "a.npy", changed(changed(good, 6, "\x02"), 8, "\xFF\xFF\xFF\xFF"), "its header has 4294967295"},
      {"npy: data too short", "a.npy", cut(good, 1), "are 8 bytes, 7 are there"},
      {"npy: data too long", "a.npy", good + "x", "more data than its shape"},
      {"npy: huge shape, no data", "a.npy", npy("<f4", "(1000000, 1000000)"), "are 4000000000000 bytes, 0 are there"},
      {"npy: product overflows", "a.npy", npy("<f4", "(4294967296, 4294967296)"), "larger than any memory"},
      {"npy: bytes overflow", "a.npy", npy("<f8", "(2305843009213693952,)"), "larger than any memory"},
      {"npy: overflow beside a zero", "a.npy", npy("<f8", "(0, 4611686018427387904, 4)"), "larger than any memory"},
      {"npy: a size beyond 64 bits", "a.npy", npy("<f4", "(99999999999999999999,)"), "does not fit into 64 bits"},
      {"npy: negative size", "a.npy", npy("<f4", "(-1,)"), "a size (digits) expected"},
      {"npy: too many axes", "a.npy", npy("<f4", "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,)"),
       "more than 32 axes"},
      {"npy: object array", "a.npy", npy("|O", "(1,)", "12345678"), "'|O' is not read"},
      {"npy: complex", "a.npy", npy("<c8", "(1,)", "12345678"), "'<c8' is not read"},
      {"npy: text", "a.npy", npy("<U3", "(1,)", "123456789012"), "is not read"},
      {"npy: records", "a.npy", npy_with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "1234"), "records"},
      {"npy: no shape", "a.npy", npy_with_header("{'descr': '<f4', 'fortran_order': False, }", ""), "'shape' is missing"},
      {"npy: key twice", "a.npy", npy_with_header("{'descr': '<f4', 'descr': '<f4', }", ""), "stands twice"},
      {"npy: unknown key", "a.npy", npy_with_header("{'dtype': '<f4', }", ""), "unknown key 'dtype'"},
      {"npy: code in the header", "a.npy", npy_with_header("{'descr': __import__('os'), }", ""), "a quoted word expected"},
      {"npy: header not closed", "a.npy", npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,", "12345678"),
       "header is damaged"},
      {"npy: text after the header", "a.npy", npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + 1", "12345678"),
       "follows"},
      {"npy: open quote", "a.npy", npy_with_header("{'descr", ""), "a quote is not closed"},
  };
}

std::string le32(std::uint32_t value) {
  return {static_cast<char>(value), static_cast<char>(value >> 8), static_cast<char>(value >> 16), static_cast<char>(value >> 24)};
}

std::vector<Case> zip_cases() {
  const std::string array = npy("<f4", "(2,)", "12345678");
  const std::string good = zip_bytes({{"x.npy", array, false}});
  const std::string packed = zip_bytes({{"x.npy", npy("<f4", "(250,)", std::string(1000, '\0')), true}});
  const std::size_t central = good.rfind("PK\x01\x02");
  const std::size_t packed_central = packed.rfind("PK\x01\x02");
  const std::size_t end = good.size() - 22;
  const std::size_t data = 30 + 5;
  return {
      {"npz: empty", "a.npz", "", "no end record"},
      {"npz: not a zip", "a.npz", std::string(1000, 'x'), "no end record"},
      {"npz: truncated", "a.npz", cut(good, 10), "no end record"},
      {"npz: first half", "a.npz", good.substr(0, good.size() / 2), "no end record"},
      {"npz: no entries", "a.npz", good.substr(end).replace(8, 12, std::string(12, '\0')), "holds no arrays"},
      {"npz: directory beyond the file", "a.npz", changed(good, end + 16, "\xF0\xFF\xFF\x7F"), "does not lie inside"},
      {"npz: directory size beyond the file", "a.npz", changed(good, end + 12, "\xF0\xFF\xFF\x7F"), "does not lie inside"},
      {"npz: 65000 entries in 51 bytes", "a.npz", changed(good, end + 10, "\xE8\xFD"), "cannot hold its 65000 entries"},
      {"npz: zip64 without its record", "a.npz", changed(good, end + 16, "\xFF\xFF\xFF\xFF"), "does not lie inside"},
      {"npz: entry without its magic", "a.npz", changed(good, central, "XX"), "entry 1 of 1 of the zip directory is damaged"},
      {"npz: name longer than the directory", "a.npz", changed(good, central + 28, "\xFF\xFF"), "longer than the directory"},
      {"npz: local header elsewhere", "a.npz", changed(good, central + 42, "\x07"), "does not begin where the directory says"},
      {"npz: local header beyond the file", "a.npz", changed(good, central + 42, "\xFF\xFF\xFF\x7F"), "does not begin where"},
      {"npz: entry longer than the file", "a.npz",
       changed(changed(good, central + 20, "\xFF\xFF\xFF\x7F"), central + 24, "\xFF\xFF\xFF\x7F"), "does not lie inside the file"},
      {"npz: local name longer than the file", "a.npz", changed(good, 26, "\xFF\xFF"), "does not lie inside the file"},
      {"npz: stored sizes differ", "a.npz", changed(good, central + 24, "\x01"), "its two sizes differ"},
      {"npz: encrypted", "a.npz", changed(good, central + 8, "\x01"), "encrypted"},
      {"npz: method 12", "a.npz", changed(good, central + 10, "\x0C"), "method 12"},
      {"npz: checksum", "a.npz", changed(good, central - 1, "X"), "checksum"},
      {"npz: damaged deflate", "a.npz", changed(packed, data + 2, "\xFF\xFF\xFF\xFF"), "entry 'x.npy'"},
      {"npz: deflate promises 4 GB", "a.npz", changed(packed, packed_central + 24, "\xF0\xFF\xFF\xFF"), "more than deflate can do"},
      {"npz: deflate gives more than promised", "a.npz", changed(packed, packed_central + 24, "\x10\x00"), "more than the expected"},
      {"npz: deflate gives less than promised", "a.npz", changed(packed, packed_central + 24, "\xFF\x0F"), "were promised"},
      {"npz: entries that overlap", "a.npz",
       [&] {
         // The directory lists the one entry twice.
         std::string bytes = good.substr(0, end) + good.substr(central, end - central) + good.substr(end);
         const std::size_t tail = bytes.size() - 22;
         bytes = changed(changed(bytes, tail + 8, "\x02"), tail + 10, "\x02");
         return changed(bytes, tail + 12, le32(static_cast<std::uint32_t>(2 * (end - central))));
       }(),
       "overlap"},
      {"npz: the same name twice", "a.npz", zip_bytes({{"x.npy", array, false}, {"x.npy", array, false}}), "'x' is there twice"},
      {"npz: not an array", "a.npz", zip_bytes({{"readme.md", "hello", false}}), "'readme.md' is not an .npy array"},
      {"npz: damaged array", "a.npz", zip_bytes({{"x.npy", "\x93NUMPY", false}}), "array 'x'"},
  };
}

std::vector<Case> image_cases() {
  const std::string jpeg = testing::jpeg_bytes(testing::synthetic_image(64, 64, 1));
  const std::string progressive = testing::jpeg_bytes(testing::synthetic_image(64, 64, 1), {.progressive = true});
  const std::string png = png_bytes(testing::synthetic_image(64, 64, 1));
  const std::size_t frame = jpeg.find("\xFF\xC0");
  const std::size_t scan = jpeg.find("\xFF\xDA");
  const std::size_t progressive_scan = progressive.rfind("\xFF\xDA");
  std::string many_scans = cut(progressive, 2);
  const std::string last_scan = many_scans.substr(progressive_scan);
  for (int i = 0; i < 1000; ++i) many_scans += last_scan;
  const std::size_t idat = png.find("IDAT");
  return {
      {"image: empty", "x.png", "", "the file is empty"},
      {"image: text", "x.jpg", "hello", "neither JPEG nor PNG"},
      {"image: zeros", "x.png", std::string(4096, '\0'), "neither JPEG nor PNG"},
      {"jpeg: magic only", "x.jpg", "\xFF\xD8", "broken image"},
      {"jpeg: no scan", "x.jpg", jpeg.substr(0, scan), "broken image"},
      {"jpeg: truncated in the middle", "x.jpg", jpeg.substr(0, (scan + jpeg.size()) / 2), "broken image: Premature end"},
      {"jpeg: truncated by its end mark", "x.jpg", cut(jpeg, 2), "broken image: Premature end"},
      {"jpeg: a table in the middle of the pixels", "x.jpg", changed(jpeg, (scan + jpeg.size()) / 2, "\xFF\xC4"), "broken image"},
      {"jpeg: an end mark in the middle", "x.jpg", changed(jpeg, (scan + jpeg.size()) / 2, "\xFF\xD9"), "broken image"},
      {"jpeg: width 0", "x.jpg", changed(jpeg, frame + 7, std::string_view("\0\0", 2)), "broken image"},
      {"jpeg: 65500 x 65500", "x.jpg", changed(jpeg, frame + 5, "\xFF\xDC\xFF\xDC"), "65500 x 65500"},
      {"jpeg: 12 bits", "x.jpg", changed(jpeg, frame + 4, "\x0C"), "broken image"},
      {"jpeg: 2 components", "x.jpg", changed(jpeg, frame + 9, "\x02"), "broken image"},
      {"jpeg: sampling factor 9", "x.jpg", changed(jpeg, frame + 11, "\x99"), "broken image"},
      {"jpeg: progressive, truncated", "x.jpg", progressive.substr(0, progressive.size() / 2), "broken image"},
      {"jpeg: a thousand scans", "x.jpg", many_scans + "\xFF\xD9", "broken image"},
      {"png: magic only", "x.png", png.substr(0, 8), "broken image: the file is truncated"},
      {"png: no pixels", "x.png", png.substr(0, idat - 4), "broken image"},
      {"png: truncated", "x.png", cut(png, 100), "broken image"},
      {"png: without its end", "x.png", cut(png, 12), "broken image"},
      {"png: a flipped bit", "x.png", changed(png, idat + 100, std::string(1, static_cast<char>(png[idat + 100] ^ 1))), "broken image"},
      {"png: checksum of the header", "x.png", changed(png, 29, "XXXX"), "broken image"},
      {"png: rows too few", "x.png", png_bytes({.width = 64, .height = 64, .rows = std::string(193, '\0')}), "broken image"},
      {"png: width 0", "x.png", png_bytes({.width = 0}), "broken image"},
      {"png: 2^31 wide", "x.png", png_bytes({.width = 0x80000000U}), "broken image"},
      {"png: 10^6 x 10^6", "x.png", png_bytes({.width = 1000000, .height = 1000000}), "1000000 x 1000000"},
      {"png: colour 5", "x.png", png_bytes({.color = 5, .rows = std::string(4, '\0')}), "broken image"},
      {"png: depth 3", "x.png", png_bytes({.depth = 3, .color = 0, .rows = std::string(2, '\0')}), "broken image"},
      {"png: palette missing", "x.png", png_bytes({.color = 3, .rows = std::string(2, '\0')}), "broken image"},
      {"png: filter 9", "x.png", png_bytes({.rows = std::string("\x09\0\0\0", 4)}), "broken image"},
      {"png: chunk of 2 GB", "x.png", changed(png, idat - 4, "\x7F\xFF\xFF\xFF"), "broken image"},
  };
}

std::vector<Case> table_cases() {
  return {
      {"csv: empty", "labels.csv", "", "is empty"},
      {"csv: header only", "labels.csv", "file,label\n", "no samples"},
      {"csv: no label column", "labels.csv", "file,class\nx,1\n", "no column 'label': found 'file,class'"},
      {"csv: no file column", "labels.csv", "path,label\nx,1\n", "no column 'file'"},
      {"csv: no header", "labels.csv", "x.png,1\ny.png,2\n", "no column 'file'"},
      {"csv: column twice", "labels.csv", "file,label,label\nx,1,2\n", "two columns are called 'label'"},
      {"csv: row too short", "labels.csv", "file,label\nok.png\n", "labels.csv:2: the row has 1 fields"},
      {"csv: row too long", "labels.csv", "file,label\nok.png,1,2\n", "labels.csv:2: the row has 3 fields"},
      {"csv: label a word", "labels.csv", "file,label\nok.png,0\nok.png,cat\n", "labels.csv:3: the label 'cat' is not an integer"},
      {"csv: label empty", "labels.csv", "file,label\nok.png,\n", "the label '' is not an integer"},
      {"csv: label a fraction", "labels.csv", "file,label\nok.png,1.5\n", "the label '1.5' is not an integer"},
      {"csv: label negative", "labels.csv", "file,label\nok.png,-2\n", "negative"},
      {"csv: label beyond 64 bits", "labels.csv", "file,label\nok.png,99999999999999999999\n", "not an integer"},
      {"csv: file missing", "labels.csv", "file,label\nok.png,1\n\nnone.png,1\n", "labels.csv:4: the file 'none.png' does not exist"},
      {"csv: file is a folder", "labels.csv", "file,label\nfolder,1\n", "is a folder"},
      {"csv: file a device", "labels.csv", "file,label\n/dev/zero,1\n", "not a regular file"},
      {"csv: file name empty", "labels.csv", "file,label\n,1\n", "file name is empty"},
      {"csv: quote not closed", "labels.csv", "file,label\n\"ok.png,1\n", "labels.csv:2: a quoted field is not closed"},
      {"csv: zero byte", "labels.csv", std::string("file,label\nok\0.png,1\n", 21), "zero byte"},
      {"csv: UTF-16", "labels.csv",
       std::string("\xFF\xFE"
                   "f\0i\0",
                   6),
       "UTF-16"},
      {"csv: control characters in a name", "labels.csv", "file,label\n\"a\nb\x1B[31m\",1\n", "'a?b?[31m'"},
      {"list: empty", "list.txt", "\n\r\n", "lists no files"},
      {"list: missing file", "list.txt", "ok.npy\nnone.npy\n", "list.txt:2: the file 'none.npy' does not exist"},
      {"list: another kind", "list.txt", "list.txt\n", "list.txt:1: 'list.txt' is neither"},
      {"list: binary", "list.txt", std::string("\0\1\2", 3), "zero byte"},
  };
}

std::vector<Case> idx_cases() {
  const std::string good = idx_bytes({2, 2, 2}, "12345678");
  const std::string packed = gzip_bytes(good);
  std::string zeros = gzip_bytes(std::string(1 << 20, '\0'));
  return {
      {"idx: empty", "a-images-idx3-ubyte", "", "not an IDX file"},
      {"idx: text", "a-images-idx3-ubyte", "hello world", "not an IDX file"},
      {"idx: floats", "a-images-idx3-ubyte", changed(good, 2, "\x0D"), "type 0x0d"},
      {"idx: one axis", "a-images-idx3-ubyte", idx_bytes({8}, "12345678"), "1 axes"},
      {"idx: header cut", "a-images-idx3-ubyte", good.substr(0, 9), "truncated inside its header"},
      {"idx: data cut", "a-images-idx3-ubyte", cut(good, 1), "takes 8 bytes, 7 are there"},
      {"idx: data too long", "a-images-idx3-ubyte", good + "x", "more data"},
      {"idx: 2^96 elements", "a-images-idx3-ubyte", idx_bytes({0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}, ""), "larger than any file"},
      {"idx: no images", "a-images-idx3-ubyte", idx_bytes({0, 28, 28}, ""), "no images"},
      {"idx: images of size 0", "a-images-idx3-ubyte", idx_bytes({5, 0, 28}, ""), "28 x 0"},
      {"gzip: magic only", "a-images-idx3-ubyte.gz", "\x1F\x8B", "truncated"},
      {"gzip: cut", "a-images-idx3-ubyte.gz", cut(packed, 9), "truncated"},
      {"gzip: without its checksum", "a-images-idx3-ubyte.gz", cut(packed, 4), "truncated"},
      {"gzip: wrong checksum", "a-images-idx3-ubyte.gz", changed(packed, packed.size() - 8, "XXXX"), "damaged"},
      {"gzip: damaged", "a-images-idx3-ubyte.gz", changed(packed, 12, "\xFF\xFF\xFF"), "a-images-idx3-ubyte.gz"},
      {"gzip: something after it", "a-images-idx3-ubyte.gz", packed + "tail", "are not gzip"},
      {"gzip: a megabyte of zeros", "a-images-idx3-ubyte.gz", zeros, "type 0x00"},
      {"cifar: empty", "data_batch_1.bin", "", "no whole number"},
      {"cifar: a byte too many", "data_batch_1.bin", std::string(3074, '\0'), "3074 bytes are no whole number"},
      {"cifar: label 10", "data_batch_1.bin", std::string(1, '\x0A') + std::string(3072, '\0'), "has the label 10"},
  };
}

// The message of opening the file and reading every sample; "" if nothing was thrown.
std::string message_of(const TempDir& dir, const std::string& file) {
  DatasetOptions options;
  const std::string path = dir / file;
  const bool image = path.ends_with(".png") || path.ends_with(".jpg");
  options.recipe = testing::exact_recipe();
  return testing::any_error_of([&] {
    const auto data = open_dataset(image ? dir.path() : path, options);
    for (std::int64_t i = 0; i < data->size(); ++i) data->sample(i);
  });
}

void check(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const TempDir dir;
    dir.write(c.file, c.bytes);
    if (c.file == "labels.csv" || c.file == "list.txt") {
      dir.write("ok.png", png_bytes(testing::synthetic_image(4, 4, 1)));
      dir.write("ok.npy", npy("<f4", "(2,)", "12345678"));
      std::filesystem::create_directory(dir / "folder");
    }
    const std::string message = message_of(dir, c.file);
    EXPECT_NE(message.find(c.part), std::string::npos) << c.what << " gave: " << message;
    EXPECT_EQ(message.find(dir / c.file), 0U) << c.what << ": the message must begin with the file: " << message;
  }
}

TEST(Hostile, Arrays) { check(array_cases()); }
TEST(Hostile, Archives) { check(zip_cases()); }
TEST(Hostile, Images) { check(image_cases()); }
TEST(Hostile, Tables) { check(table_cases()); }
TEST(Hostile, IdxGzipAndCifar) { check(idx_cases()); }

TEST(Hostile, FoldersAndNames) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "empty");
  dir.write("texts/a.doc", "x");
  dir.write("mixed/a.png", "x");
  dir.write("mixed/a.npy", "x");
  dir.write("gap/input_0.pb", "");
  dir.write("gap/input_2.pb", "");
  dir.write("pb/input_0.pb", "\xFF\xFF\xFF");
  dir.write("a-labels-idx1-ubyte", "x");
  dir.write("pair/a-images-idx3-ubyte", idx_bytes({1, 1, 1}, "x"));
  dir.write("pair/a-labels-idx1-ubyte", idx_bytes({2}, "xy"));
  struct Spec {
    std::string spec;
    const char* part;
  };
  const Spec specs[] = {{"", "no data was given"},
                        {dir / "none", "does not exist"},
                        {dir / "none/deeper", "does not exist"},
                        {dir / "empty", "found nothing"},
                        {dir / "texts", "found a.doc"},
                        {dir / "texts/a.doc", "of no kind"},
                        {dir / "mixed", "both images (1) and .npy files (1)"},
                        {dir / "gap", "input_1.pb is missing"},
                        {dir / "pb", "input_0.pb"},
                        {dir / "mixed/a.png", "is a single image"},
                        {dir / "a-labels-idx1-ubyte", "file of labels"},
                        {dir / "pair", "2 labels for the 1 images"},
                        {"/dev/zero", "device"}};
  DatasetOptions options;
  options.recipe = testing::exact_recipe();
  for (const Spec& spec : specs) {
    const std::string message = testing::any_error_of([&] {
      const auto data = open_dataset(spec.spec, options);
      data->sample(0);
    });
    EXPECT_NE(message.find(spec.part), std::string::npos) << spec.spec << " gave: " << message;
  }
}

// Whatever is done to a valid file, it is read or refused.
TEST(Hostile, CutsAndFlips) {
  const Tensor image = testing::synthetic_image(24, 24, 1);
  const std::string files[] = {testing::jpeg_bytes(image), testing::jpeg_bytes(image, {.progressive = true}), png_bytes(image)};
  const std::string arrays[] = {
      npy("<f4", "(2, 3)", std::string(24, 'x')),
      zip_bytes({{"x.npy", npy("<f4", "(250,)", std::string(1000, '\1')), true}, {"y.npy", npy("|i1", "()", "1"), false}})};
  constexpr std::uint64_t kSeed = 2026;
  SplitMix64 random(kSeed);
  const TempDir dir;
  const auto damage = [&](const std::string& good) {
    std::string bytes = good;
    if (random.below(4) == 0) bytes.resize(random.below(bytes.size()));
    for (std::uint64_t flips = random.below(4); flips > 0 && !bytes.empty(); --flips)
      bytes[random.below(bytes.size())] ^= static_cast<char>(1U << random.below(8));
    return bytes;
  };
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    for (const std::string& file : files) {
      const std::string bytes = damage(file);
      refused += testing::any_error_of([&] { decode_image(bytes, "x"); }).empty() ? 0 : 1;
    }
    const std::string array = damage(arrays[0]);
    refused += testing::any_error_of([&] { parse_npy(array, "x"); }).empty() ? 0 : 1;
    const std::string archive = dir.write("a.npz", damage(arrays[1]));
    refused += testing::any_error_of([&] { read_npz(archive); }).empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 300) << "seed " << kSeed;
}

}  // namespace
}  // namespace nibble
