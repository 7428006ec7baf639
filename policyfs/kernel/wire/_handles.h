/* The numbers of handles. */

#ifndef POLICYFS_HANDLES_H
#define POLICYFS_HANDLES_H

#include <stdint.h>

#define BIT(n) ((uint64_t)1 << (n))

/* A file handle, as bridge.pack_fh makes it:
 *   bit 63 set:   bit 62 FOPEN_NOFLUSH, bits 61 to 31 the backing id, bits 30 to 0 an index
 *   bit 63 clear: bits 62 to 56 the other FOPEN_* flags, bits 54 to 31 the uid of a writer (_request_kinds.h),
 *                 bits 30 to 0 an index
 * The kernel counts backing ids up to 2^31 - 1 before it uses a number again, so the ids need all 31 bits. Together
 * with passthrough, no flag except FOPEN_NOFLUSH has a meaning. */
#define FH_PASSTHROUGH_BIT 63
#define FH_NOFLUSH_BIT 62
#define FH_FLAGS_SHIFT 56
#define FH_BACKING_SHIFT 31
#define FH_BACKING_MASK 0x7fffffffu

#define FOPEN_NOFLUSH_FLAG (1u << 5)
#define FOPEN_PASSTHROUGH_FLAG (1u << 7)

#endif
