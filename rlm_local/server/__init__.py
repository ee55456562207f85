"""One HTTP API over a loaded model: OpenAI's shape, answered through runs.

The server knows a Runtime and the ports, and no engine behind them.
"""
