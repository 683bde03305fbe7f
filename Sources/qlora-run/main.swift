print("qlora-run")
