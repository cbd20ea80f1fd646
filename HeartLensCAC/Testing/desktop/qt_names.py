"""What the panel uses of Qt, and where the same is used in Slicer's own Python scripts.

Paths are those of Slicer's repository at 583e9b37d5 (2026-08-21). "wrapped": no script of Slicer uses this name, but
it is a public member of a QtCore, QtGui or QtWidgets class, all of which PythonQt's generated wrappers offer; nobody
has seen it run in Slicer yet. Of classes that are not Qt's own, PythonQt offers properties, slots and Q_INVOKABLE
methods alone: these are in the lists in slicer_api/.
"""

PROCESSES = "Modules/Scripted/DICOMLib/DICOMProcesses.py"
PACKAGING = "Base/Python/slicer/packaging.py"
BROWSER = "Modules/Scripted/DICOMLib/DICOMBrowser.py"
WRAPPED = "wrapped"

QT_NAMES = {
    "qt.QApplication.focusWidget": WRAPPED,
    "qt.QColor": "Base/Python/slicer/parameterNodeWrapper/guiConnectors.py",
    "qt.QDesktopServices.openUrl": "Base/Python/slicer/ScriptedLoadableModule.py",
    "qt.QDockWidget.NoDockWidgetFeatures": WRAPPED,
    "qt.QEventLoop.ExcludeSocketNotifiers": WRAPPED,
    "qt.QEventLoop.ExcludeUserInputEvents": "Modules/Scripted/SampleData/SampleData.py",
    "qt.QFileDialog.getExistingDirectory": "Applications/SlicerApp/Testing/Python/JRC2013VisTest.py",
    "qt.QHeaderView.Stretch": BROWSER,
    "qt.QIcon": "Base/Python/slicer/ScriptedLoadableModule.py",
    "qt.QKeySequence": PACKAGING,
    "qt.QMessageBox.Cancel": "Base/Python/slicer/util.py",
    "qt.QMessageBox.Ok": "Base/Python/slicer/util.py",
    "qt.QMessageBox.Question": "Base/Python/slicer/util.py",
    "qt.QMessageBox.Warning": "Base/Python/slicer/util.py",
    "qt.QPixmap": "Docs/developer_guide/script_repository/plots.md",
    "qt.QProcess": PROCESSES,
    "qt.QProcess.FailedToStart": PROCESSES,
    "qt.QProcess.MergedChannels": WRAPPED,
    "qt.QProcess.NotRunning": PROCESSES,
    "qt.QProcess.Running": WRAPPED,
    "qt.QPushButton": "Base/Python/slicer/util.py",
    "qt.QRegularExpression.escape": WRAPPED,
    "qt.QShortcut": PACKAGING,
    "qt.QSortFilterProxyModel": WRAPPED,
    "qt.QStandardItemModel": WRAPPED,
    "qt.QTableWidgetItem": BROWSER,
    "qt.QTimer": PACKAGING,
    "qt.QVBoxLayout": "Base/Python/slicer/ScriptedLoadableModule.py",
    "qt.QUrl.fromLocalFile": WRAPPED,
    "qt.Qt.AlignRight": WRAPPED,
    "qt.Qt.AlignVCenter": WRAPPED,
    "qt.Qt.AscendingOrder": WRAPPED,
    "qt.Qt.BottomDockWidgetArea": WRAPPED,
    "qt.Qt.DescendingOrder": WRAPPED,
    "qt.Qt.PlainText": WRAPPED,
    "qt.Qt.ToolTipRole": WRAPPED,
    "qt.Qt.UserRole": WRAPPED,
}
"""Names that begin with qt."""

SIGNALS = {
    "aboutToQuit()": "Modules/Scripted/DICOMLib",
    "activated()": "Docs/developer_guide/script_repository/gui.md",
    "cellClicked(int,int)": WRAPPED,
    "cellDoubleClicked(int,int)": WRAPPED,
    "clicked(bool)": "Applications/SlicerApp/Testing/Python/AtlasTests.py",
    "contentsCollapsed(bool)": "ctkCollapsibleButton.h",
    "currentIndexChanged(int)": "Applications/SlicerApp/Testing/Python/ScenePerformanceTest.py",
    "currentNodeChanged(vtkMRMLNode*)": "Extensions/Testing/ScriptedLoadableExtensionTemplate",
    "currentPathChanged(QString)": "ctkPathLineEdit.h",
    "databaseChanged()": "ctkDICOMDatabase.h",
    "doubleClicked(QModelIndex)": WRAPPED,
    "errorOccurred(QProcess::ProcessError)": WRAPPED,
    "finished(int,QProcess::ExitStatus)": WRAPPED,
    "itemSelectionChanged()": "Modules/Scripted/ExtensionWizard/ExtensionWizardLib/EditableTreeWidget.py",
    "layoutChanged(int)": "Libs/MRML/Widgets/qMRMLLayoutManager.h",
    "readyReadStandardError()": WRAPPED,
    "readyReadStandardOutput()": PROCESSES,
    "sectionClicked(int)": WRAPPED,
    "selectionChanged(QItemSelection,QItemSelection)": WRAPPED,
    "started()": WRAPPED,
    "startupCompleted()": "Utilities/Templates/Modules/Scripted/TemplateKey.py",
    "textChanged(QString)": WRAPPED,
    "timeout()": PACKAGING,
    "toggled(bool)": "Applications/SlicerApp/Testing/Python/JRC2013VisTest.py",
    "valueChanged(double)": WRAPPED,
    "valueChanged(int)": "Base/Python/slicer/util.py",
}
"""Signatures that the panel connects to. None of them was removed or overloaded away between Qt 5.15 and Qt 6."""

GONE_IN_QT6 = {"QTextCodec", "QRegExp", "QDesktopWidget", "stateChanged(int)", "currentIndexChanged(QString)"}
