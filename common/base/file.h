/* Files: memory maps, whole reads with a cap, atomic writes, folders, paths. */
#ifndef KF_BASE_FILE_H
#define KF_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "common/base/status.h"

#define KF_PATH_MAX 4096

/* A read-only memory map of a whole file; of a pipe or device there is none (KF_EINVAL). Zero-initialise before open. */
typedef struct {
	const uint8_t *data; /* not NULL once open, of an empty file neither */
	size_t size;         /* bytes */
} kf_map;

kf_status kf_map_open(kf_map *map, const char *path, kf_err *err) KF_MUST_CHECK;
void kf_map_close(kf_map *map);

/* Read a whole file, at most max bytes, into buf (cleared first, and followed
 * by a NUL that is not counted). Larger: KF_EDATA. Missing: KF_ENOTFOUND. */
kf_status kf_file_read(const char *path, size_t max, kf_buf *buf, kf_err *err) KF_MUST_CHECK;

/* Write bytes to path so that a reader sees the old file or the new one, never
 * a part: temporary name beside it, fsync, rename, fsync of the folder. What is no regular
 * file (a link, /dev/stdout, a pipe) is written in place, and "-" is standard output. The temporary name is path.part, locked: two programs take turns,
 * and what a killed one left is taken over. */
kf_status kf_file_write_atomic(const char *path, const void *data, size_t n, kf_err *err) KF_MUST_CHECK;

/* The file under whose name something is written before it has its own, path.part: whoever left it, locked, and empty. Where somebody is
 * writing it: KF_EBUSY, "PART is being written by another " and refuse, or, NULL, wait. Where there are no locks: one of a name that nobody else has.
 * fd -1 on failure. */
kf_status kf_part_take(char part[KF_PATH_MAX], const char *path, const char *refuse, int *fd, kf_err *err) KF_MUST_CHECK;

/* Whether that is standard output, where nothing else may stand then. */
bool kf_file_is_stdout(const char *path);

/* Flush what standard output or a pipe was given (what: what it is, for messages). A reader that has seen enough (EPIPE) is no error, and the stream
 * does not remember it; a full disk is. */
kf_status kf_flush_piped(FILE *out, const char *what, kf_err *err) KF_MUST_CHECK;

/* Whether kf_file_write_atomic could begin, as far as permissions and folders say: to be asked before long work. Makes nothing. */
kf_status kf_file_may_write(const char *path, kf_err *err) KF_MUST_CHECK;

/* KF_EUSAGE where what a program is to write is also read by it, or written twice: a file of that name, or the one that is there under another.
 * write (n_write), read (n_read): NULL is no file. */
kf_status kf_files_apart(const char *const *write, int n_write, const char *const *read, int n_read, kf_err *err) KF_MUST_CHECK;

/* The same as kf_file_write_atomic for what is written bit by bit, to f. Where another program is writing it: KF_EBUSY. Stays where it is while open. */
typedef struct {
	FILE *f;
	char path[KF_PATH_MAX], part[KF_PATH_MAX];
	bool in_place;
	int fd, error;             /* errno of the first write that failed, 0 for none */
} kf_outfile;

kf_status kf_outfile_open(kf_outfile *o, const char *path, kf_err *err) KF_MUST_CHECK;
kf_status kf_outfile_commit(kf_outfile *o, kf_err *err) KF_MUST_CHECK; /* also when it fails nothing is left to do */
void kf_outfile_abandon(kf_outfile *o);   /* removes the part; does nothing when f is NULL */

kf_status kf_mkdirs(const char *path, kf_err *err) KF_MUST_CHECK;   /* like mkdir -p */
kf_status kf_sync_dir(const char *path, kf_err *err) KF_MUST_CHECK; /* makes renames in it durable */
/* Whether a folder has nothing in it; one that does not exist has nothing. */
kf_status kf_dir_empty(const char *path, bool *empty, kf_err *err) KF_MUST_CHECK;
bool kf_is_dir(const char *path);
bool kf_exists(const char *path);
/* Whether path is the folder or lies in it, links followed; false where either is not there. */
bool kf_path_in(const char *path, const char *folder);

/* out (KF_PATH_MAX) = dir "/" name; KF_EINVAL when it does not fit. */
kf_status kf_path_join(char *out, const char *dir, const char *name, kf_err *err) KF_MUST_CHECK;

/* What to call a model by its path: "m" of "models/m.gguf" or "models/m/", "m-epoch-2" of "models/m/epoch-2". Cut to fit. */
#define KF_NAME_MAX 256
void kf_path_name(const char *path, char out[KF_NAME_MAX]);

#endif
