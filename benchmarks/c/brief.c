/* brief: 32 bytes, one line. */
#include <unistd.h>

int main(void)
{
    static const char line[] = "thirty-two bytes, a line's feed\n";
    _Static_assert(sizeof line == 33, "32 bytes and the terminating zero");
    return write(1, line, 32) != 32;
}
