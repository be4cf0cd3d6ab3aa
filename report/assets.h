/* The page's style and script: page.css and page.js as they are, put into the program by the assembler. Their hashes come
 * from the Makefile (report/assets.mk), for the page's content security policy. */
#ifndef KF_REPORT_ASSETS_H
#define KF_REPORT_ASSETS_H

#include <stddef.h>

#include "report/assets_sha256.h"

extern const char kf_report_css[], kf_report_js[];
extern const size_t kf_report_css_size, kf_report_js_size;

#endif
