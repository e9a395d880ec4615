// SPDX-License-Identifier: GPL-2.0
// new and delete, plain and aligned, and a vector that grows to 64 MiB.
#include <cstdint>
#include <cstdio>
#include <new>
#include <vector>

struct alignas(4096) page {
	char bytes[4096];
};

int main()
{
	std::vector<uint64_t> v;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < 8 << 20; i++)
		v.push_back(i * i);
	for (uint64_t x : v)
		sum += x;
	std::vector<page> pages(2048);
	pages[2047].bytes[4095] = 1;
	char *block = new char[4 << 20];
	bool whale = !((uintptr_t)block % (2 << 20));
	delete[] block;
	try {
		block = new char[SIZE_MAX / 2 - 4096];
	} catch (const std::bad_alloc &) {
		sum++;
	}
	std::printf("%llu %d\n", (unsigned long long)sum, whale);
}
