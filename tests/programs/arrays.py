# SPDX-License-Identifier: GPL-2.0
# Temporaries of many sizes.
import numpy as np

total = 0.0
for n in list(range(300000, 1600000, 170001)) * 2:
    x = np.arange(n, dtype=np.float64)
    y = np.sqrt(x) * 2 + x[::-1]
    total += float((y - x.mean()).sum() + np.sort(y)[n // 2])
print(repr(total), np.zeros((1500, 1500)).dot(np.ones((1500, 2))).sum())
