/* Searches of frames that are whole pictures (photos.py), and of frames of MPEG-1, -2 and -4 part 2 (user_data.py). */

#define _GNU_SOURCE /* memmem(3) */
#include "_heads.h"

/* The longest captions (bytes, as in user_data.py), and the most pictures one behind the other (jpeg.py). */
#define CAPTION_BYTES 255
#define IMAGES 64
/* The highest type of a header of MPEG-4 that is a slice in MPEG-2 (frames.py). */
#define HEADER_TYPES 0x2f

/* --- frames that are whole pictures --- */

#define VECTOR 16
typedef unsigned char vector __attribute__((vector_size(VECTOR)));

/* True if the first two bytes of one of the marks begin at one of VECTOR bytes. Reads one byte more. */
static bool may_be_marked(bytes at)
{
	static const unsigned char pairs[][2] = {{'E', 'x'}, {'n', 's'}, {'P', 'h'}, {'G', 'P'}, {0xff, 0xd8}};
	vector here, behind, found = {0};
	uint64_t parts[2];

	memcpy(&here, at, VECTOR);
	memcpy(&behind, at + 1, VECTOR);
	for (int i = 0; i < 5; i++)
		found |= (vector)(here == pairs[i][0]) & (vector)(behind == pairs[i][1]);
	memcpy(parts, &found, sizeof(parts));
	return parts[0] | parts[1];
}

static bool is_mark(bytes at, size_t size)
{
	if (begins(at, size, "\xff\xd8\xff", 3))
		return true;
	return begins(at, size, "Exif\0\0", 6) || begins(at, size, "ns.adobe.com/", 13) ||
	       begins(at, size, "Photoshop 3.0\0", 14) || begins(at, size, "GPSLatitude", 11);
}

/* True if a mark of EXIF, XMP or IPTC is among these bytes, or the start of a JPEG. */
static bool is_marked(bytes at, size_t size)
{
	bytes end = at + size;

	while (end - at > VECTOR) {
		if (may_be_marked(at)) {
			for (int i = 0; i < VECTOR; i++) {
				if (is_mark(at + i, (size_t)(end - at - i)))
					return true;
			}
		}
		at += VECTOR;
	}
	for (; at < end; at++) {
		if (is_mark(at, (size_t)(end - at)))
			return true;
	}
	return false;
}

/* Tables of quantisation (0xdb) or of Huffman codes, as long as they state. */
static bool tables_fit(unsigned char code, bytes at, size_t size)
{
	size_t place = 0;

	while (place < size) {
		unsigned int number = at[place], symbols = 0;

		if ((number & 15) > 3 || number >> 4 > 1)
			return false;
		if (code == 0xdb) {
			place += number >> 4 ? 129 : 65;
			continue;
		}
		for (size_t i = place + 1; i < place + 17 && i < size; i++)
			symbols += at[i];
		if (symbols > 256)
			return false;
		place += 17 + symbols;
	}
	return place == size;
}

/* A segment without anything to remove: tables, headers, JFIF or AVI1 without more, the colour transform. */
static bool segment_is_plain(unsigned char code, bytes at, size_t size)
{
	if (!holds_no_block(at, size))
		return false;
	if (code == 0xe0)
		return (size == 14 && !memcmp(at, "JFIF", 5) && !at[12] && !at[13]) ||
		       (begins(at, size, "AVI1", 4) && size >= 14 && !without_zeros(at + 14, size - 14));
	if (code == 0xda)
		return size >= 1 && size == 4 + 2 * (size_t)at[0];
	if (code == 0xdd)
		return size == 2;
	if (code == 0xdb || code == 0xc4)
		return tables_fit(code, at, size);
	return code >= 0xc0 && code <= 0xcf && code != 0xc8 && code != 0xcc && size >= 6 &&
	       size == 6 + 3 * (size_t)at[5];
}

/* The next marker in a scan; end if there is none. Its second byte is not behind end. */
static bytes scan_end(bytes at, bytes end)
{
	for (; at + 1 < end; at++) {
		at = memchr(at, 0xff, (size_t)(end - at - 1));
		if (!at)
			break;
		if (at[1] && at[1] != 0xff && (at[1] < 0xd0 || at[1] > 0xd7))
			return at;
	}
	return end;
}

/* The end of a JPEG at which nothing must be removed; NULL if it may have more. */
static bytes plain_jpeg(bytes at, bytes end)
{
	bool frame = false, scan = false;

	for (at += 2; end - at >= 4 && at[0] == 0xff && at[1] != 0xd9;) {
		unsigned char code = at[1];
		size_t size = (size_t)at[2] << 8 | at[3];
		bytes body = at + 4;

		if (size < 2 || size - 2 > (size_t)(end - body) || !segment_is_plain(code, body, size - 2))
			return NULL;
		at = body + size - 2;
		frame = frame || (code >= 0xc0 && code <= 0xcf && code != 0xc4);
		if (code == 0xda) {
			bytes stop = scan_end(at, end);

			if (memmem(at, (size_t)(stop - at), "ftyp", 4))
				return NULL; /* perhaps a video within the picture */
			at = stop;
			scan = true;
		}
	}
	return frame && scan && end - at >= 2 && at[0] == 0xff && at[1] == 0xd9 ? at + 2 : NULL;
}

static bool jpegs_are_plain(bytes at, size_t size)
{
	bytes end = at + size;

	for (int count = 0; count < IMAGES && begins(at, (size_t)(end - at), "\xff\xd8\xff", 3); count++) {
		at = plain_jpeg(at, end);
		if (!at || !without_zeros(at, (size_t)(end - at)))
			return at;
		while (!*at)
			at++;
	}
	return false;
}

static bool png_is_plain(bytes at, size_t size)
{
	bytes end = at + size;
	bool data = false;

	if (!begins(at, size, "\x89PNG\r\n\x1a\n", 8) || !begins(at + 8, size - 8, "\0\0\0\x0dIHDR", 8))
		return false;
	for (at += 8; end - at >= 12;) {
		size_t length = (size_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];

		if (length > (size_t)(end - at - 12))
			return false;
		if (!memcmp(at + 4, "IEND", 4))
			return data && !length && end - at == 12;
		if (!memcmp(at + 4, "IDAT", 4))
			data = true;
		else if (memcmp(at + 4, "IHDR", 4) || length != 13)
			return false;
		at += 12 + length;
	}
	return false;
}

bool is_picture(bytes at, size_t size)
{
	return begins(at, size, "\xff\xd8\xff", 3) || begins(at, size, "\x89PNG", 4) ||
	       begins(at, size, "II*\0", 4) || begins(at, size, "MM\0*", 4) || begins(at, size, "RIFF", 4) ||
	       begins(at, size, "GIF8", 4) || begins(at, size, "\0\0\0\x0cjP  ", 8) ||
	       begins(at, size, "\xff\x4f\xff\x51", 4);
}

bool picture_is_plain(bytes at, size_t size)
{
	if (is_picture(at, size))
		return jpegs_are_plain(at, size) || png_is_plain(at, size);
	return !is_marked(at, size);
}

/* --- MPEG-1, -2 and -4 part 2 --- */

static bool user_data_is_plain(bytes at, size_t size)
{
	size = without_zeros(at, size);
	if (size <= CAPTION_BYTES && (begins(at, size, "GA94\3", 5) || begins(at, size, "GA94\6", 5) ||
				      begins(at, size, "CC\1\xf8", 4)))
		return says_nothing(at, size);
	for (size_t i = 0; i < size; i++) {
		if (at[i] != ' ' && at[i] != 0xff)
			return false;
	}
	return true;
}

/* A unit from its type on. old: MPEG-1 or MPEG-2, in which types are slices that MPEG-4 has as headers, or not at all. */
static bool mpeg_unit_is_plain(bytes at, size_t size, bool old)
{
	if (*at == 0xb2)
		return user_data_is_plain(at + 1, size - 1);
	if (*at > 0xb8 || (!old && *at > HEADER_TYPES && *at < 0xb0))
		return false;
	if (*at == 0xb6 || (old && *at && *at < 0xb0))
		return true;
	return says_nothing(at + 1, size - 1);
}

bool mpeg_is_plain(bytes at, size_t size)
{
	bytes end = at + size, next;
	bool old = memmem(at, size, "\0\0\1\0", 4) && !memmem(at, size, "\0\0\1\xb6", 4);

	if (!picture_is_plain(at, size))
		return false;
	if (is_picture(at, size))
		return true;
	next = start_code(at, end);
	if (!says_nothing(at, (size_t)(next - at)))
		return false;
	for (at = next; end - at > 3; at = next) {
		next = start_code(at + 3, end);
		if (!mpeg_unit_is_plain(at + 3, (size_t)(next - at - 3), old))
			return false;
	}
	return true;
}
