"""S3 server in a separate process, so that its CPU time is not counted for the programs that read from it.

python -m benchmarks.s3_stand_in        # prints its endpoint; exits when its standard input is closed
"""

from __future__ import annotations

import sys

from etl.local.s3_server import s3_server

if __name__ == "__main__":
    with s3_server() as endpoint:
        sys.stdout.write(f"{endpoint}\n")
        sys.stdout.flush()
        sys.stdin.read()
