"""The command line: python -m nsdemo."""
