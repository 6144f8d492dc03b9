<?php echo "1 + 1 = ", 1 + 1, "\n";
