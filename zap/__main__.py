from zap.cli import main

main()
