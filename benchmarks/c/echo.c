/* echo: a coprocess. Whatever comes, in lines that arrive whole, goes back. */
#include <unistd.h>

int main(void)
{
    char line[4096];
    ssize_t n;
    while ((n = read(0, line, sizeof line)) > 0)
        if (write(1, line, (size_t)n) != n)
            return 1;
    return n < 0;
}
