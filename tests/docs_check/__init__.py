"""Checks the documentation: `make docs-check`, or `PYTHONPATH=tests python -m docs_check [PAGE …]`.

Every sh and python block of README.md and docs/*.md is run, the lines that a page shows as output are compared with
what was printed, and every link is followed. The words behind a fence's language are its marks:

    ```sh                                      run, command by command; a failure ends the block
    ```sh needs=gpu,weights                    skipped and counted; what may be needed: pages.NEEDS
    ```sh given=chair.png:photo,views          lies in the folder before the block runs; kinds: given.KINDS
    ```sh as-written                           not turned down, since the page shows its figures
    ```python                                  run as a script, behind the imports of the page's earlier ones
    ```text output                             what the block before prints: each line is searched in order,
    ```text output tolerance=0.1               … stands for anything, numbers within a relative tolerance
    ```text                                    neither run nor compared: files, usages

The blocks of one page run in order in one folder of its own, in which they find what those before have left and what
`given=` names, with an empty HOME and without the network. Commands are turned down to the sizes of run.Sizes, all of
which are flags: `python -m docs_check README.md --sizes.quality standard`, or `--sizes.full` for what the page says.
"""
