/* What the files that write a model's folder share (hf_write.c, hf_config.c, hf_folder.c). */
#ifndef KF_HF_IMPL_H
#define KF_HF_IMPL_H

#include "common/base/file.h"
#include "common/model/weights.h"

#define KF_HF_PARTIAL ".partial"    /* behind the folder's name, until it is whole */
#define KF_HF_LOCK ".lock"          /* behind that */

/* A file of dir; v is used up, NULL: there was no memory for it. */
kf_status kf_hf_write_json(const char *dir, const char *name, json_t *v, kf_err *err) KF_MUST_CHECK;
/* config.json and generation_config.json, into dir. */
kf_status kf_hf_write_configs(const kf_hf_spec *spec, const char *dir, kf_err *err) KF_MUST_CHECK;

/* dir without slashes at its end, with room for KF_HF_PARTIAL KF_HF_LOCK behind it, and the folder that it is in. */
kf_status kf_hf_split(const char *dir, char name[KF_PATH_MAX], char parent[KF_PATH_MAX], kf_err *err) KF_MUST_CHECK;
/* Empty a folder that is half-written, or is to be replaced. First goes what makes it a model, last what says whose it is. One with anything else in
 * it is left alone and reported. */
kf_status kf_hf_clear(const char *dir, kf_err *err) KF_MUST_CHECK;

#endif
