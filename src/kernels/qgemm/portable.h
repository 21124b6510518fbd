// The kernel of every processor. Internal to the room.
#pragma once

#include "kernels/qgemm/tile.h"

namespace nibble::kernels {

void qgemm_u8s8s32_4x16c1_portable(const QgemmStrip& strip);

}  // namespace nibble::kernels
