/* SPDX-License-Identifier: GPL-2.0-only */

#include "file/removed.h"

REMOVED(rmdir, RMDIR, REMOVED_AT_REMOVEDIR)
