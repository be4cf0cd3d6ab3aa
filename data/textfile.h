/* The text of a file, from beginning to end, unpacked where it is compressed: gzip and zstd, by the file's first bytes, also
 * several members or frames one after the other. Memory: of a compressed file the line in hand, else none (a map). */
#ifndef KF_DATA_TEXTFILE_H
#define KF_DATA_TEXTFILE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"

typedef struct kf_textfile kf_textfile;

/* name: what messages call it; borrowed until close. A byte order mark at the beginning is passed over. */
kf_status kf_textfile_open(const char *path, const char *name, kf_textfile **out, kf_err *err) KF_MUST_CHECK;
void kf_textfile_close(kf_textfile *f);            /* accepts NULL */

/* The next line, without its line end, until the next call; *line NULL after the last. One of more than max bytes is
 * KF_EDATA that says which. Compressed data that is damaged or ends too early, too. */
kf_status kf_textfile_line(kf_textfile *f, size_t max, const uint8_t **line, size_t *n, kf_err *err) KF_MUST_CHECK;

/* All of it at once; of a compressed file at most max bytes. */
kf_status kf_textfile_all(kf_textfile *f, size_t max, const uint8_t **text, size_t *n, kf_err *err) KF_MUST_CHECK;

/* Its first bytes, at most max, without going on; fewer only where the file has no more. */
kf_status kf_textfile_peek(kf_textfile *f, size_t max, const uint8_t **head, size_t *n, kf_err *err) KF_MUST_CHECK;

/* How many bytes of the file itself have been read since the last call. */
size_t kf_textfile_read(kf_textfile *f);

#endif
