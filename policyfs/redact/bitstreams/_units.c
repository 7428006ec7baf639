/* Searches of the units of a frame: NAL units of H.264, H.265 and H.266, and OBUs of AV1.
 *
 * The walks are those of frames.py, sei.py and obus.py. Wherever these end a search, the walks here end, too.
 */

#include "_heads.h"

/* Limits, as in frames.py (units), sei.py and user_data.py (bytes). */
#define FRAME_UNITS 4096
#define UNIT_BYTES 65536
#define NUMBERS_BYTES 255
#define REGISTERED_BYTES 1024
/* The largest unit of messages that is read here, and the most other bytes that are searched here. */
#define MESSAGES_BYTES 4096
#define SEARCHED_BYTES 4096
/* Bytes of a UUID, and the most bytes behind it that are looked at here. */
#define UUID 16
#define SHORT_UUID 4
#define NUMBERS_AFTER_UUID 32

/* Types of SEI messages: user data that is not registered, and time codes (136). */
enum { MARKS = 5, TIMES = 136 };

static bool has(uint64_t bits, unsigned int type)
{
	return type < 64 && bits >> type & 1;
}

static bool is_text(unsigned char one)
{
	return one >= 0x20 && one <= 0x7e;
}

/* --- messages --- */

/* True if no run of text is among numbers: eight characters of UTF-16, or twelve of Latin-1. */
static bool no_text(bytes at, size_t size)
{
	size_t run = 0, wide = 0;

	for (size_t i = 0; i < size; i++) {
		bool latin = is_text(at[i]) || at[i] == 0xb0 || at[i] == 0xba || at[i] == 0xc2;

		run = latin ? run + 1 : 0;
		if (run >= 12)
			return false;
	}
	for (size_t i = 0; i + 1 < size;) {
		bool pair = !at[i] && is_text(at[i + 1]);

		wide = pair ? wide + 1 : 0;
		if (wide >= 8)
			return false;
		i += pair ? 2 : 1;
	}
	return true;
}

/* The starts of blocks of metadata in block_starts.py, without their zeros. */
static bool starts_block(bytes at, size_t size)
{
	static const char *const marks[] = {
		"\x25\x88\4\1", "\x88\x25\4\1", "\1\2\2N", "\1\2\2S", "\3\2\2E", "\3\2\2W",
		"loci", "com.apple.quicktime.location", "jumb", "<x:xmpmeta", "<x:xapmeta", "<?xpacket", "<rdf:RDF",
		"http://ns.adobe.com/", "Exif", "8BIM\4", "Photoshop 3.0", "ID3\2", "ID3\3", "ID3\4", "APETAGEX",
		"GPSLatitude", "GPSLongitude", "GPSPosition", "GPSCoordinates", "GPS5", "GPS9", "GPSP", "GPSU",
		"\xa9xyz", "\x1c\2\x5a", "\x1c\2\x5c", "\x1c\2\x5f", "\x1c\2\x64", "\x1c\2\x65",
	};

	switch (*at) {
	case 0x25: case 0x88: case 1: case 3: case 'l': case 'c': case 'j': case '<': case 'h': case 'E': case '8':
	case 'P': case 'I': case 'A': case 'G': case 0xa9: case 0x1c:
		for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++) {
			if (begins(at, size, marks[i], strlen(marks[i])))
				return true;
		}
		break;
	default:
		break;
	}
	return false;
}

bool holds_no_block(bytes at, size_t size)
{
	unsigned char plain[SEARCHED_BYTES];
	size_t length = 0;

	if (size > sizeof(plain))
		return false;
	for (size_t i = 0; i < size; i++) {
		if (at[i])
			plain[length++] = at[i];
	}
	for (size_t i = 0; i < length; i++) {
		if (starts_block(plain + i, length - i))
			return false;
	}
	return true;
}

bool says_nothing(bytes at, size_t size)
{
	return holds_no_block(at, size) && no_text(at, size);
}

/* A message that is registered by ITU-T T.35: captions, the picture's format, or dynamic range. */
static bool registered_is_plain(bytes at, size_t size)
{
	if (begins(at, size, "\xb5\0\x31GA94\3", 8))
		return size <= 12 + 3 * (size > 8 ? at[8] & 0x1fu : 0) && says_nothing(at, size);
	if (begins(at, size, "\xb5\0\x31" "DTG1", 7))
		return size >= 8 && size <= 10;
	if (size > REGISTERED_BYTES || !(begins(at, size, "\xb5\0\x3c", 3) || begins(at, size, "\xb5\0\x3b", 3) ||
					 begins(at, size, "\xb5\x58\x90", 3) || begins(at, size, "\x26\0\x04", 3)))
		return false;
	return says_nothing(at, size);
}

/* True if the bytes behind a known UUID hold no text that tells a place or a time: no three characters in a row, and
 * less than two digits. */
static bool is_binary(bytes at, size_t size)
{
	size_t run = 0, digits = 0;

	for (size_t i = 0; i < size; i++) {
		run = is_text(at[i]) ? run + 1 : 0;
		digits += at[i] >= '0' && at[i] <= '9';
		if (run >= 3 || digits >= 2)
			return false;
	}
	return size <= NUMBERS_AFTER_UUID;
}

/* User data that is not registered: marks that encoders of phones write into each frame, and times of MISB. The bits
 * MARKS and TIMES in the rule are set if such data need not be hidden. */
static bool unregistered_is_plain(const uint64_t *rule, bytes at, size_t size)
{
	bool mark = size >= UUID && size <= UUID + 8 &&
		    (begins(at, size, "\x03\x87\xf4\x4e", 4) || begins(at, size, "\xb9\xed\xb9\x30", 4) ||
		     begins(at, size, "\xe9\x58\xf4\x91", 4));
	bool time = begins(at, size, "MISPmicrosectime", UUID) || begins(at, size, "MISPnanosectime\0", UUID);

	if (!(mark && has(rule[PLAIN], MARKS)) && !(time && has(rule[PLAIN + TIMES / 64], TIMES % 64)))
		return false;
	return is_binary(at + UUID, size - UUID) && (mark ? says_nothing(at + SHORT_UUID, size - SHORT_UUID) :
							  says_nothing(at + UUID, size - UUID));
}

static bool message_is_plain(const uint64_t *rule, size_t type, bytes at, size_t size)
{
	if (type == 3) {
		for (size_t i = 0; i < size; i++) {
			if (at[i] != 0xff)
				return false;
		}
		return true;
	}
	if (type == 4)
		return registered_is_plain(at, size);
	if (type == MARKS)
		return unregistered_is_plain(rule, at, size);
	return size <= NUMBERS_BYTES && type < 256 && has(rule[PLAIN + type / 64], type % 64) &&
	       says_nothing(at, size);
}

/* A number in the form of SEI: bytes of 255, and one smaller byte. */
static bool sei_number(bytes at, size_t size, size_t *place, size_t *number)
{
	*number = 0;
	while (*place < size && at[*place] == 0xff) {
		*number += 255;
		(*place)++;
	}
	if (*place >= size)
		return false;
	*number += at[(*place)++];
	return true;
}

static bool messages_are_plain(const uint64_t *rule, bytes at, size_t size)
{
	unsigned char data[MESSAGES_BYTES];
	size_t length = 0, place = 0;

	if (size > sizeof(data))
		return false;
	for (size_t i = 0; i < size; i++) { /* without emulation prevention bytes */
		if (i + 2 < size && !at[i] && !at[i + 1] && at[i + 2] == 3) {
			data[length++] = 0;
			data[length++] = 0;
			i += 2;
		} else {
			data[length++] = at[i];
		}
	}
	length = without_zeros(data, length);
	if (length && data[length - 1] == 0x80)
		length--;
	while (place < length) {
		size_t type, bytes_of;

		if (!sei_number(data, length, &place, &type) || !sei_number(data, length, &place, &bytes_of) ||
		    bytes_of > length - place || !message_is_plain(rule, type, data + place, bytes_of))
			return false;
		place += bytes_of;
	}
	return true;
}

/* --- NAL units --- */

static bool is_filler(bytes at, size_t size)
{
	size = without_zeros(at, size);
	if (size && at[size - 1] == 0x80)
		size--;
	for (size_t i = 0; i < size; i++) {
		if (at[i] && at[i] != 0xff)
			return false;
	}
	return true;
}

static unsigned int type_of(const uint64_t *rule, bytes unit)
{
	return (unsigned int)(unit[rule[BYTE]] >> rule[SHIFT] & rule[MASK]);
}

/* True for a slice of a layer that the stream declares. at: a whole header. */
static bool is_coded(const uint64_t *rule, bytes at)
{
	bool layered = rule[HEADER] > 1 && ((unsigned int)at[0] << 8 | at[1]) & rule[LAYER];

	return has(rule[UNSPLIT], type_of(rule, at)) && !layered;
}

static bool unit_is_plain(const uint64_t *rule, bytes at, size_t size)
{
	unsigned int type;

	if (size < rule[HEADER])
		return false;
	type = type_of(rule, at);
	if (has(rule[MESSAGES], type))
		return messages_are_plain(rule, at + rule[HEADER], size - rule[HEADER]);
	if (is_coded(rule, at))
		return true;
	if (has(rule[KEPT], type))
		return says_nothing(at + rule[HEADER], size - rule[HEADER]);
	return size <= UNIT_BYTES && is_filler(at + rule[HEADER], size - rule[HEADER]);
}

static bool stream_is_plain(const uint64_t *rule, bytes at, size_t size)
{
	bytes end = at + size, unit = start_code(at, end), next;

	if (!says_nothing(at, (size_t)(unit - at)))
		return false;
	for (int count = 0; unit < end; unit = next) {
		unit += 3;
		next = start_code(unit, end);
		if (++count > FRAME_UNITS || (unit < next && !unit_is_plain(rule, unit, (size_t)(next - unit))))
			return false;
	}
	return true;
}

static bool is_slice(const uint64_t *rule, bytes at)
{
	bool zero = !at[0] && (rule[HEADER] < 2 || !at[1]);

	return !zero && is_coded(rule, at);
}

/* A legal unit has no start code, but decoders begin a new unit there, also within a slice. */
static bool may_split(const uint64_t *rule, bytes at)
{
	return !is_slice(rule, at) || has(rule[SEARCHED], type_of(rule, at));
}

/* Units behind their lengths, also in a frame that ends within a unit. */
static bool chain_is_plain(const uint64_t *rule, bytes at, size_t size)
{
	bytes end = at + size;

	for (int count = 0; (size_t)(end - at) > rule[LENGTH];) {
		uint64_t length = 0, left;
		bytes stop;

		for (uint64_t i = 0; i < rule[LENGTH]; i++)
			length = length << 8 | *at++;
		left = (uint64_t)(end - at);
		if (!length) { /* zeros between the units */
			while (length < left && !at[length])
				length++;
			at += length / rule[LENGTH] * rule[LENGTH];
			continue;
		}
		if (++count > FRAME_UNITS || left < rule[HEADER])
			return false;
		stop = at + (length < left ? length : left);
		if (may_split(rule, at) && start_code(at, stop) < stop)
			return false;
		if (length > left) {
			if (has(rule[MESSAGES], type_of(rule, at)))
				return false;
			return says_nothing(at - rule[LENGTH], left + rule[LENGTH]);
		}
		if (!is_slice(rule, at) && !unit_is_plain(rule, at, length))
			return false;
		at += length;
	}
	return true;
}

bool nal_is_plain(const uint64_t *rule, bytes at, size_t size)
{
	bool longer = begins(at, size, "\0\0\0\1", 4), code = longer || begins(at, size, "\0\0\1", 3);

	if (!rule[LENGTH] && !code && size > 4) {
		uint64_t length = (uint64_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];

		if (length && length <= size - 4)
			return false; /* it seems to begin with a length */
	}
	if (!rule[LENGTH] || longer || (rule[LENGTH] < 4 && code))
		return stream_is_plain(rule, at, size);
	return chain_is_plain(rule, at, size);
}

/* --- AV1 --- */

/* Reads the size of an OBU (a number of groups of seven bits). */
static bool obu_size(bytes *at, bytes end, uint64_t *size)
{
	*size = 0;
	for (int shift = 0; shift < 63; shift += 7) {
		if (*at >= end)
			return false;
		*size |= (uint64_t)(**at & 0x7f) << shift;
		if (*(*at)++ < 0x80)
			return true;
	}
	return false;
}

static bool obu_is_plain(const uint64_t *rule, unsigned int type, bytes at, size_t size)
{
	if (has(rule[UNSPLIT], type) || !size)
		return true;
	if (has(rule[KEPT], type))
		return says_nothing(at, size);
	if (type == 15)
		return at[size - 1] == 0x80 && !without_zeros(at, size - 1);
	if (type != 5)
		return false;
	return at[0] == 4 ? registered_is_plain(at + 1, size - 1) :
			    size <= NUMBERS_BYTES && has(rule[PLAIN], at[0]) && says_nothing(at, size);
}

bool obus_are_plain(const uint64_t *rule, bytes at, size_t size)
{
	bytes end = at + size;
	bool announced = false; /* tiles are coded behind a header, as in obus.py */

	for (int count = 0; at < end; count++) {
		bytes start = at;
		unsigned int first = *at++, type = first >> 3 & 15;
		uint64_t length = 0;

		if (count >= FRAME_UNITS)
			return false;
		if (first & 0x80 || (first & 4 && at++ >= end) || (first & 2 && !obu_size(&at, end, &length)))
			return says_nothing(start, (size_t)(end - start)); /* no OBU, as in obus.py */
		if (!(first & 2) || length > (uint64_t)(end - at))
			length = (uint64_t)(end - at);
		if (!obu_is_plain(rule, type, at, length) || (type == 4 && !announced))
			return false;
		announced = type == 3 || type == 6 || (announced && type != 2);
		at += length;
	}
	return true;
}
