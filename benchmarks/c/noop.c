/* noop: the cheapest program there is, so that what is measured is the starting of it. */
int main(void)
{
    return 0;
}
